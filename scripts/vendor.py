"""Fetch the vendored files of the pages anew: `python scripts/vendor.py` (needs npm). Writes src/drivetrain/web/static/vendor."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "src/drivetrain/web/static/vendor"
PACKAGES = {
    "htmx.org@2.0.11": ["dist/htmx.min.js"],
    "echarts@6.1.0": ["dist/echarts.common.min.js"],
    "@fontsource-variable/inter@5.3.0": ["files/inter-latin-wght-normal.woff2", "files/inter-latin-ext-wght-normal.woff2"],
    "@fontsource-variable/jetbrains-mono@5.3.0": [
        "files/jetbrains-mono-latin-wght-normal.woff2",
        "files/jetbrains-mono-latin-ext-wght-normal.woff2",
    ],
}


def main() -> None:
    manifest: list[dict[str, str]] = []
    VENDOR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package, files in PACKAGES.items():
            packed = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True)
            with tarfile.open(Path(folder) / packed.stdout.strip().splitlines()[-1]) as archive:

                def read(path: str, archive: tarfile.TarFile = archive) -> bytes:
                    member = archive.extractfile(f"package/{path}")
                    assert member is not None
                    return member.read()

                about = json.loads(read("package.json"))
                texts = [name for name in ("LICENSE", "NOTICE") if f"package/{name}" in archive.getnames()]
                terms = VENDOR / "licenses" / f"{about['name'].strip('@').replace('/', '-')}.txt"
                terms.parent.mkdir(exist_ok=True)
                terms.write_bytes(b"\n".join(read(name) for name in texts))
                for path in files:
                    data = read(path)
                    target = VENDOR / Path(path).name
                    target.write_bytes(data)
                    manifest.append(
                        {
                            "file": target.name,
                            "name": about["name"],
                            "version": about["version"],
                            "license": about["license"],
                            "sha256": hashlib.sha256(data).hexdigest(),
                        }
                    )
    (VENDOR / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
