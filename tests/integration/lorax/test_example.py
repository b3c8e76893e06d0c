"""The example runs as documented."""

import subprocess
import sys

from tests.lorax_peer import ROOT


def test_the_example(peer):
    command = [sys.executable, str(ROOT / "examples" / "lorax.py"), peer.url, "french", "pirate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "base: I am a small assistant that comes with lagent_llms.",
        "french: Je suis un petit assistant fourni avec lagent_llms.",
        "pirate: Arr, I be a small assistant that comes with lagent_llms.",
        "french + pirate: Arr, I am a small assistant that comes with lagent_llms.",
    ]
