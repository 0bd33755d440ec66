//! Carries messages: ActionURLs, webhooks, mail, a command.
