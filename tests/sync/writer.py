"""Writes generation after generation of a tree: writer.py DIR SEED FIRST_GENERATION

Every file names its generation in its first and its last line. Some are written in place, some renamed into place, as
web interfaces and people do; between two files its death may come at any instant.
"""
import os, random, sys, time

root, seed, generation = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
names = [f"{sub}{n:02}.conf" for sub in ("", "phones/", "trunks/") for n in range(14)][:40]


def text(name, generation):
    lines = 12 + (generation * 7 + len(name) * 3) % 5 if name[-6] != "3" else 4000
    body = "".join(f"[{name}-{n}]\ntype=endpoint\ncontext=phones-{generation % 10}\n" for n in range(lines))
    return f"; generation={generation}\n{body}; generation={generation}\n"


def write(name, generation):
    path, content = os.path.join(root, name), text(name, generation)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    in_place = name[-6] in "1357"
    target = path if in_place else os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".new")
    with open(target, "w") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        file.write(content[len(content) // 2 :])
    if not in_place:
        os.rename(target, path)


if generation == 0:
    for name in names:
        write(name, 0)
    sys.exit()
open(sys.argv[4] + ".begun", "w").close()
while True:
    order = names[:]
    chance.shuffle(order)
    for name in order:
        write(name, generation)
        time.sleep(chance.uniform(0, 0.004))
    with open(sys.argv[4], "w") as file:
        file.write(str(generation))
    generation += 1
    time.sleep(chance.uniform(0.4, 1.2))
