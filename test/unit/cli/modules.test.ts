import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { berth } from './command.ts'
import { type FakeApi, give, minilm, refuse, startFakeApi } from './fake-api.ts'

let api: FakeApi
beforeAll(async () => {
  api = await startFakeApi()
})
afterAll(() => api.close())

const broken = {
  ...minilm,
  id: 'broken',
  state: 'failed',
  replicas: [],
  models: ['a', 'b'],
  environment: undefined,
  error: {
    code: 'REQUIREMENTS_FAILED',
    message: 'broken: its requirements could not be installed',
    retryable: false,
    origin: 'orchestrator',
  },
}

describe('ps', () => {
  it('shows a line a module, with what is wrong in the place of the source', async () => {
    api.on(
      'GET /api/modules',
      give({ modules: [minilm, broken, { ...minilm, id: 'off', desired: 'disabled', state: 'absent', replicas: [] }] }),
    )
    const { code, stdout, stderr } = await berth(['ps'], { url: api.url })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.replaceAll(/ {2,}/g, ' | ').split('\n')).toEqual([
      'ID | FORMAT | STATE | MODELS | REPLICAS | ENVIRONMENT | SECURITY | SOURCE/ERROR',
      'embeddings | service | ready | minilm | 1 | ready 164 MB | 95 | /srv/berth/modules/embeddings',
      'broken | service | failed | a,b | 0 | - | 95 | REQUIREMENTS_FAILED: broken: its requirements could not be installed',
      'off | service | disabled | minilm | 0 | ready 164 MB | 95 | /srv/berth/modules/embeddings',
      '',
    ])
  })

  it('prints nothing but the JSON of the API with --json, before or after the command', async () => {
    api.on('GET /api/modules', give({ modules: [minilm] }))
    for (const args of [
      ['ps', '--json'],
      ['--json', 'ps'],
    ]) {
      const { stdout, stderr } = await berth(args, { url: api.url })
      expect(JSON.parse(stdout)).toEqual({ modules: [minilm] })
      expect(stderr).toBe('')
    }
  })

  it('sends the key of BERTH_KEY', async () => {
    await berth(['ps'], { url: api.url, env: { BERTH_KEY: 'secret' } })
    expect(api.requests.at(-1)?.headers.authorization).toBe('Bearer secret')
  })
})

describe('what changes modules', () => {
  it('waits for the work and names the result', async () => {
    api.on('POST /api/modules/embeddings/enable', give(minilm))
    const { code, stdout, stderr } = await berth(['enable', 'embeddings'], { url: api.url })
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: 'embeddings: enabled (ready)\n' })
    expect(api.requests.at(-1)?.query).toBe('?wait=true')
  })

  it('does not wait with --no-wait', async () => {
    api.on('POST /api/modules/embeddings/disable', give({ ...minilm, state: 'stopping' }, 202))
    const { stderr } = await berth(['disable', 'embeddings', '--no-wait'], { url: api.url })
    expect(stderr).toMatch(/^embeddings: accepted/)
    expect(api.requests.at(-1)?.query).toBe('')
  })

  it('adds an image by its reference and a folder by its absolute path', async () => {
    api.on('POST /api/modules', give(minilm))
    await berth(['add', 'echo:1.2'], { url: api.url })
    expect(api.requests.at(-1)?.body).toEqual({ source: 'echo:1.2' })
    await berth(['add', '.'], { url: api.url })
    expect(api.requests.at(-1)?.body).toEqual({ source: import.meta.dirname })
  })

  it('removes a module; an empty answer is a good one', async () => {
    api.on('DELETE /api/modules/echo', (response) => response.writeHead(204).end())
    expect(await berth(['remove', 'echo'], { url: api.url })).toEqual({
      code: 0,
      stdout: '',
      stderr: 'echo: removed\n',
    })
  })

  it('shows what the installer does while it waits', async () => {
    const progress = { phase: 'environment', message: 'Downloading numpy', current: 6_500_000, total: 16_000_000 }
    api.on('GET /api/modules', give({ modules: [{ ...minilm, state: 'preparing', progress }] }))
    api.on('POST /api/modules/embeddings/restart', async (response, request) => {
      // At its second look the command has shown what the first one told it.
      const later = () => api.requests.slice(api.requests.indexOf(request))
      const looks = () => later().filter(({ call }) => call === 'GET /api/modules').length
      await expect.poll(looks, { timeout: 8_000 }).toBeGreaterThanOrEqual(2)
      give(minilm)(response, request)
    })
    const { stderr, stdout } = await berth(['restart', 'embeddings'], { url: api.url })
    expect(stderr.split('\n')).toEqual([
      'embeddings: installing its requirements [########------------] 6.5 MB of 16 MB: Downloading numpy',
      'embeddings: restarted (ready)',
      '',
    ])
    expect(stdout).toBe('')
  })
})

describe('an error of the API', () => {
  it('goes to stderr with code, details and remedy, the traceback only with --verbose, and exit code 1', async () => {
    api.on(
      'POST /api/modules/embeddings/enable',
      refuse(502, {
        code: 'REQUIREMENTS_FAILED',
        message: 'embeddings: its requirements could not be installed',
        requestId: 'r-1',
        details: {
          module: 'embeddings',
          file: 'requirements.txt',
          lines: ['No solution found', 'because numpy==9 does not exist and this line makes it long'],
          traceback: 'Traceback (most recent call last):\n  File "x"',
          remedy: 'Correct requirements.txt.',
        },
      }),
    )
    const plain = await berth(['enable', 'embeddings'], { url: api.url })
    expect({ code: plain.code, stdout: plain.stdout }).toEqual({ code: 1, stdout: '' })
    expect(plain.stderr.split('\n')).toEqual([
      'berth: embeddings: its requirements could not be installed',
      '  code: REQUIREMENTS_FAILED',
      '  module: embeddings',
      '  file: requirements.txt',
      '  lines:',
      '    | No solution found',
      '    | because numpy==9 does not exist and this line makes it long',
      '  Correct requirements.txt.',
      '  (--verbose shows the traceback)',
      '',
    ])
    const verbose = await berth(['enable', 'embeddings', '--verbose'], { url: api.url })
    expect(verbose.stderr).toContain(
      '  request: r-1\n  traceback:\n    | Traceback (most recent call last):\n    |   File "x"\n',
    )
  })

  it('that comes from no Berth says so', async () => {
    api.on('GET /api/models', (response) => response.writeHead(502).end('<html>Bad Gateway</html>'))
    const { code, stderr } = await berth(['models'], { url: api.url })
    expect(code).toBe(1)
    expect(stderr).toContain('answered 502 and is no Berth')
  })
})

describe('without an orchestrator', () => {
  it('the command says what to do, with exit code 1', async () => {
    const { code, stdout, stderr } = await berth(['ps'], { url: 'http://127.0.0.1:1' })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(
      'berth: no orchestrator answers at http://127.0.0.1:1 (ECONNREFUSED)\n  Start one with `berth up`, or say where it is in BERTH_URL.\n',
    )
  })
})

describe('a command that is written wrong', () => {
  it.each([
    [['pz']],
    [['enable']],
    [['ps', '--nope']],
    [['logs', 'm', '--tail', 'few']],
    [['infer', 'm']],
    [['schema', 'nothing']],
    [[]],
  ])('%j ends with exit code 2 and says it on stderr', async (args) => {
    const { code, stdout, stderr } = await berth(args, { url: 'http://127.0.0.1:1' })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).not.toBe('')
  })

  it('--help of every command ends with examples and exit code 0', async () => {
    const { stdout: overview } = await berth(['--help'])
    const names = [...overview.matchAll(/^ {2}([a-z]+) .*$/gm)]
      .map(([, name]) => name ?? '')
      .filter((name) => name !== 'help' && name !== 'berth')
    expect(names).toEqual(
      expect.arrayContaining(['up', 'down', 'ps', 'models', 'add', 'remove', 'infer', 'logs', 'doctor', 'schema']),
    )
    const helps = await Promise.all(names.map((name) => berth([name, '--help'])))
    for (const { code, stdout } of helps) {
      expect(code).toBe(0)
      expect(stdout).toContain('Examples:\n  ')
    }
  }, 30_000)
})
