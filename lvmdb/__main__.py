"""`python -m lvmdb` is the command `lvmdb`; `torchrun -m lvmdb` starts it on many processes."""

from lvmdb.cli.main import main

if __name__ == "__main__":
    main()
