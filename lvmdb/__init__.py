"""lvmdb: latent vector models, trained from and answered for in one PostgreSQL database."""
