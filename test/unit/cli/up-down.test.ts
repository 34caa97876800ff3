import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { berth, type CommandOptions, finished, start } from './command.ts'

let folder: string
let options: CommandOptions & { readonly env: Record<string, string> }
let url: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'berth-cli-'))
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  options = {
    program: path.join(import.meta.dirname, 'stand-in.ts'),
    cwd: folder,
    env: { BERTH_LISTEN: `127.0.0.1:${port}` },
  }
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('up', () => {
  it('runs the orchestrator in the foreground, passes a signal on and takes over its exit code', async () => {
    const child = start(['up'], options)
    await once(child.stdout, 'data')
    child.kill('SIGTERM')
    expect(await finished(child)).toMatchObject({ code: 3, stdout: 'drained\n' })
  })

  it('-d waits until it is ready and says where; a second up finds it; down ends it', async () => {
    const up = await berth(['up', '-d'], options)
    expect(up.code).toBe(0)
    expect(up.stdout).toMatch(new RegExp(`^Berth is up at ${url} \\(process \\d+, log .*berth.log\\)\\n$`))
    expect(await readFile(path.join(folder, '.berth/berth.log'), 'utf8')).toBe('listening\n')

    const again = await berth(['up'], options)
    expect(again).toEqual({ code: 0, stdout: '', stderr: `Berth is up already at ${url}\n` })

    const down = await berth(['down', '--json'], options)
    expect(JSON.parse(down.stdout)).toEqual({ stopped: ['embeddings'] })
  })

  it('-d of one that can not start shows its last lines', async () => {
    const { code, stdout, stderr } = await berth(['up', '-d'], {
      ...options,
      env: { ...options.env, STAND_IN_FAILS: '1' },
    })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain(
      'Berth ended with exit code 1 while it started; its last lines:\n  | berth: berth.yaml:1:1 is wrong\n',
    )
  })
})

describe('without an orchestrator', () => {
  it('down removes what one left behind', async () => {
    const { code, stderr } = await berth(['down'], options)
    expect(code).toBe(0)
    expect(stderr).toContain('removed berth-left-over')
  })

  it('down and schema do not act on this machine for one that is elsewhere', async () => {
    // Refused at once, and no name of this machine as far as the command knows.
    const elsewhere = { ...options, url: 'http://0.0.0.0:1' }
    for (const command of ['down', 'schema']) {
      expect(await berth([command], elsewhere)).toMatchObject({ code: 1, stdout: '' })
    }
  })

  it('schema comes from its program', async () => {
    const { code, stdout } = await berth(['schema', 'module'], options)
    expect({ code, schema: JSON.parse(stdout) }).toEqual({ code: 0, schema: { title: 'module' } })
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
