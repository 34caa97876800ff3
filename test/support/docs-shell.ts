import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { repository } from './docs.ts'

/** Runs the commands that stand in documents, in a folder of their own, against the orchestrator at `url`. */
export interface DocsShell {
  readonly folder: string
  /** One line of bash; both outputs as one. */
  run(command: string): Promise<{ readonly code: number | null; readonly output: string }>
  close(): Promise<void>
}

/** A program of the documents that a machine may lack. */
export const curl = (process.env.PATH ?? '')
  .split(delimiter)
  .map((path) => join(path, 'curl'))
  .find((path) => existsSync(path))

export async function openDocsShell(url: string): Promise<DocsShell> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-docs-'))
  const programs = join(folder, 'bin')
  await mkdir(programs)
  const program = async (name: string, command: string): Promise<void> => {
    await writeFile(join(programs, name), `#!/bin/sh\n${command}\n`)
    await chmod(join(programs, name), 0o755)
  }
  await program('berth', `exec '${process.execPath}' '${join(repository, 'orchestrator/cli/berth.ts')}' "$@"`)
  await program('curl', `exec '${curl}' --silent --noproxy '*' --fail-with-body --max-time 60 "$@"`)
  const inherited = Object.entries(process.env).filter(([name]) => !/^(BERTH|npm)_/.test(name))
  const env = {
    ...Object.fromEntries(inherited),
    PATH: `${programs}${delimiter}${process.env.PATH}`,
    BERTH_URL: url,
  }
  return {
    folder,
    async run(command) {
      const line = command.replaceAll(/npm run (--silent )?berth --/g, 'berth').replaceAll('http://127.0.0.1:8080', url)
      const child = spawn('bash', ['-c', `exec 2>&1\n${line}`], {
        cwd: folder,
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
        timeout: 120_000,
      })
      const ended = new Promise<number | null>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', resolve)
      })
      const [output, code] = await Promise.all([text(child.stdout), ended])
      return { output, code }
    },
    close: () => rm(folder, { recursive: true, force: true, maxRetries: 3 }),
  }
}
