"""The tables as SQLAlchemy metadata: their only definition besides the migrations."""
