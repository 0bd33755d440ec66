"""sink.py PORT OUT OPTIONS: a mail relay on 127.0.0.1 that writes each accepted mail to OUT as a line of JSON.

OPTIONS is JSON: tls (none, starttls, tls), certificate, key, user, password, data (an answer such as "451 later" to
each mail), refuse (a list of receivers answered with 550), slow (seconds before a mail is answered).
"""
import asyncio
import base64
import json
import ssl
import sys
import time

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

port, out, options = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
count = 0


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in options.get("refuse", []):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        global count
        await asyncio.sleep(options.get("slow", 0))
        if options.get("data"):
            return options["data"]
        count += 1
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            # With TLS from the first byte the listener takes nothing else, and aiosmtpd does not tell it per session.
            "tls": options["tls"] == "tls" or session.ssl is not None,
            "auth": bool(session.authenticated),
            "raw": base64.b64encode(envelope.original_content).decode(),
        }
        with open(out, "a") as file:
            file.write(json.dumps(mail) + "\n")
        return f"250 2.0.0 Ok: queued as LAB{count}"


def login(server, session, envelope, mechanism, data):
    good = data.login.decode() == options["user"] and data.password.decode() == options["password"]
    # handled=True with success=False would leave the client without an answer.
    return AuthResult(success=good, handled=good)


context = None
if options["tls"] != "none":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options["certificate"], options["key"])
settings = {"hostname": "mail.lab.test", "enable_SMTPUTF8": True}
if options["tls"] == "starttls":
    settings.update(tls_context=context, require_starttls=True)
if options.get("user"):
    settings.update(authenticator=login, auth_required=True, auth_require_tls=options["tls"] == "starttls")


class Sink(Controller):
    def factory(self):
        return SMTP(self.handler, **settings)


implicit = context if options["tls"] == "tls" else None
Sink(Handler(), hostname="127.0.0.1", port=port, ssl_context=implicit).start()
print("ready", flush=True)
while True:
    time.sleep(3600)
