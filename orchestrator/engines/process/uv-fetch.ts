import { join } from 'node:path'
import type { HostPython } from './python.ts'
import { runProgram } from './run-program.ts'

/** The two ways to get uv where it is not installed. */
export type UvResult = { readonly path: string } | { readonly problem: string }

export interface UvFetch {
  readonly python: HostPython
  readonly version: string
  /** Empty; thrown away afterwards. */
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

/** With pip, so that every option of pip's configuration counts. The program is alone in its file and can be moved. */
export async function installUv(fetch: UvFetch): Promise<UvResult> {
  const { env, signal } = fetch
  const venv = await runProgram(fetch.python.path, ['-m', 'venv', fetch.folder], { timeoutMs: 120_000, env, signal })
  if (!venv.ok) return { problem: venv.problem }
  const arguments_ = ['-m', 'pip', 'install', '--no-deps', '--only-binary', ':all:', `uv==${fetch.version}`]
  const pip = await runProgram(join(fetch.folder, 'bin', 'python'), arguments_, { timeoutMs: 300_000, env, signal })
  return pip.ok ? { path: join(fetch.folder, 'bin', 'uv') } : { problem: pip.problem }
}

/**
 * uv without pip, for a Python that has neither pip nor venv (Debian without python3-venv): the wheel is found in the
 * package index (PEP 503), checked against the index's hash and unpacked, by the standard library alone.
 */
const program = `
import hashlib, html.parser, os, platform, re, sys, urllib.parse, urllib.request, zipfile

version, folder, index = sys.argv[1:]
machine = platform.machine().lower()
if sys.platform == "darwin":
    tags = ["macosx_.*" + ("arm64" if machine == "arm64" else "x86_64")]
else:
    tags = ["manylinux_?[0-9_]*" + machine, "musllinux.*" + machine]
wanted = [re.compile("uv-" + re.escape(version) + "-py3-none-.*" + tag + r"\\.whl$") for tag in tags]

class Links(html.parser.HTMLParser):
    found = []
    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.append(dict(attributes).get("href") or "")

def get(url):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": "text/html"}), timeout=60) as answer:
        return answer.geturl(), answer.read()

page, text = get(index.rstrip("/") + "/uv/")
links = Links()
links.feed(text.decode("utf-8", "replace"))
for pattern in wanted:
    for link in links.found:
        url, _, fragment = urllib.parse.urljoin(page, link).partition("#")
        if not pattern.match(urllib.parse.unquote(url.rsplit("/", 1)[-1])):
            continue
        wheel = get(url)[1]
        if not fragment.startswith("sha256=") or hashlib.sha256(wheel).hexdigest() != fragment[7:]:
            sys.exit("the hash of the downloaded uv is not the index's")
        file = os.path.join(folder, "uv.whl")
        with open(file, "wb") as target:
            target.write(wheel)
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            with open(os.path.join(folder, "uv"), "wb") as target:
                target.write(archive.read(name))
        os.chmod(os.path.join(folder, "uv"), 0o755)
        sys.exit(0)
sys.exit("the package index has no uv " + version + " for this machine")
`

export async function downloadUv(fetch: UvFetch): Promise<UvResult> {
  const { env, signal } = fetch
  const index = env.UV_DEFAULT_INDEX ?? env.UV_INDEX_URL ?? env.PIP_INDEX_URL ?? 'https://pypi.org/simple'
  const args = ['-c', program, fetch.version, fetch.folder, index]
  const fetched = await runProgram(fetch.python.path, args, { timeoutMs: 300_000, env, signal })
  return fetched.ok ? { path: join(fetch.folder, 'uv') } : { problem: fetched.problem }
}
