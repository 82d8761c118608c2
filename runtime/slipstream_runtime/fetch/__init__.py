"""Models before their engines: downloads into a shared cache, and facts about checkpoints, without an accelerator."""
