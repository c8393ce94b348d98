"""Settings of the embedded server, derived from this machine."""

from __future__ import annotations

import os
from pathlib import Path

_MB = 1 << 20


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container around us, has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(limit)
        if path.exists():
            value = path.read_text().strip()
            if value.isdigit():
                total = min(total, int(value))
    return total


def settings(memory: int, cores: int) -> dict[str, str]:
    """The settings for a machine of `memory` bytes and `cores` processors.

    An eighth of the memory is for shared_buffers: an HNSW graph that does not fit there costs a
    copy from the page cache for every vector that a search visits. Durability stays on.
    """

    def mb(share: float, least: int, most: int) -> str:
        return f"{min(max(int(memory * share) // _MB, least), most)}MB"

    workers = max(1, min(cores - 1, 8))
    return {
        "shared_buffers": mb(1 / 8, 128, 16_384),
        "effective_cache_size": mb(1 / 2, 256, 262_144),
        "work_mem": mb(1 / 256, 16, 256),
        "maintenance_work_mem": mb(1 / 16, 64, 8_192),
        "max_wal_size": mb(1 / 6, 1_024, 16_384),
        "checkpoint_completion_target": "0.9",
        "wal_compression": "off",
        "max_parallel_maintenance_workers": str(workers),
        "max_parallel_workers_per_gather": str(min(workers, 4)),
        "max_parallel_workers": str(max(cores, 2)),
        # Compiling takes longer than the queries of this program do.
        "jit": "off",
        "random_page_cost": "1.1",
    }


def configuration(socket_folder: Path, port: int) -> str:
    """The text of the server's configuration file."""
    values = {
        "listen_addresses": "",
        "port": str(port),
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "log_line_prefix": "%m [%p] ",
        "timezone": "UTC",
        **settings(machine_memory(), os.cpu_count() or 1),
    }
    lines = [
        "# Written at each start. Settings of your own go into postgresql.conf, below the include."
    ]
    lines += [f"{name} = '{_quoted(value)}'" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
