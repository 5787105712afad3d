"""How fast the authority signs, and how long many workloads take to join.

    python benchmarks/identity.py --workloads 1000

Signing: requests through ``Authority.sign`` alone, beside the bare ECDSA signatures that each needs (one checked, one
made). Joining: workloads' own agents, each with a key, a request and a judgement of the answer, against the
authority's server in a process of its own over its Unix socket; the yardstick of the same run is making as many keys
and requests and judging as many chains without any server.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import multiprocessing
import multiprocessing.synchronize
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, new_key
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from lateen.identity.workload import WorkloadIdentity, judge_chain
from lateen.values.names import SpiffeId

DOMAIN = "cluster.local"


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def identity_of(number: int) -> SpiffeId:
    return SpiffeId(DOMAIN, "default", f"s{number}")


def per_second(work: Callable[[], object], seconds: float = 2.0) -> float:
    """How often a piece of work is done in a second."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - started)


def signing(folder: Path) -> dict[str, float]:
    authority = Authority(folder / "ca", DOMAIN, utc_now)
    request = build_request(new_key(), identity_of(0))
    key = ec.generate_private_key(ec.SECP256R1())
    public, text = key.public_key(), b"x" * 300
    mark = key.sign(text, ec.ECDSA(hashes.SHA256()))

    def bare() -> None:
        public.verify(mark, text, ec.ECDSA(hashes.SHA256()))
        key.sign(text, ec.ECDSA(hashes.SHA256()))

    certificates, yardstick = per_second(lambda: authority.sign(request, identity_of(0))), per_second(bare)
    return {"certificates": certificates, "bare": yardstick, "ratio": yardstick / certificates}


def serve(folder: str, ready: multiprocessing.synchronize.Event) -> None:
    async def main() -> None:
        server = CertificateServer(Authority(Path(folder, "ca"), DOMAIN, utc_now), utc_now)
        await server.start(Path(folder, "ca.sock"), lambda token: lasting(identity_of(int(token))))
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(main())


async def join(folder: Path, count: int) -> float:
    """Seconds until every workload has its first certificate."""
    left, done = count, asyncio.Event()

    def delivered(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    agents = [
        WorkloadIdentity(identity_of(number), folder / "ca.sock", str(number), delivered, time.time)
        for number in range(count)
    ]
    started = time.perf_counter()
    tasks = [asyncio.ensure_future(agent.run()) for agent in agents]
    await done.wait()
    seconds = time.perf_counter() - started
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seconds


def without_server(folder: Path, count: int) -> float:
    authority = Authority(folder / "ca", DOMAIN, utc_now)
    started = time.perf_counter()
    for number in range(count):
        key = new_key()
        chain = authority.sign(build_request(key, identity_of(number)), identity_of(number))
        judge_chain(chain, key, identity_of(number), time.time())
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        found = {"signing": signing(folder)}
        ready = multiprocessing.Event()
        server = multiprocessing.Process(target=serve, args=(name, ready), daemon=True)
        server.start()
        ready.wait(30)
        try:
            seconds = asyncio.run(join(folder, asked.workloads))
        finally:
            server.terminate()
            server.join()
        alone = without_server(folder, asked.workloads)
        found["joining"] = {"workloads": asked.workloads, "seconds": seconds, "alone": alone, "ratio": seconds / alone}
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    signs, joins = found["signing"], found["joining"]
    print(f"certificates signed: {signs['certificates']:.0f}/s ({signs['ratio']:.1f} x bare signatures)")
    print(f"{asked.workloads} workloads joined in {joins['seconds']:.2f} s ({joins['ratio']:.1f} x without a server)")


if __name__ == "__main__":
    main()
