import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../../orchestrator/config/load.ts'
import type { Problem } from '../../../orchestrator/config/problems.ts'
import { caught } from '../../support/caught.ts'
import { tempFolder } from '../../support/temp-folder.ts'

function load(yaml: string | undefined, env: Record<string, string> = {}, more: Record<string, string> = {}) {
  const cwd = tempFolder({ ...(yaml === undefined ? {} : { 'berth.yaml': yaml }), ...more })
  return { cwd, config: () => loadConfig({ env, cwd }) }
}

async function problems(yaml: string | undefined, env: Record<string, string> = {}): Promise<readonly string[]> {
  const error = await caught(load(yaml, env).config)
  expect(error.code).toBe('CONFIG_INVALID')
  return (error.details.problems as readonly Problem[]).map(
    ({ file, line, column, field, message }) =>
      `${file}${line === undefined ? '' : `:${line}:${column}`} ${field} ${message}`,
  )
}

describe('without a file', () => {
  test('the defaults hold', () => {
    const { cwd, config } = load(undefined)
    expect(config()).toEqual({
      listen: { host: '127.0.0.1', port: 8080 },
      engine: 'auto',
      modules: join(cwd, 'modules'),
      data: join(cwd, '.berth'),
      auth: 'none',
      allowedHosts: [],
      models: {},
      moduleSettings: {},
      shutdown: 'keep',
      bodyLimitBytes: 64 * 1024 * 1024,
      logLevel: 'info',
      queue: { limit: 64, timeoutMs: 60_000 },
      docker: { baseImage: 'python:3.13-slim-trixie', subnets: ['10.213.0.0/16'], subnetPrefix: 28 },
      reload: true,
    })
  })

  test('one that BERTH_CONFIG names must be there', async () => {
    expect(await problems(undefined, { BERTH_CONFIG: 'other.yaml' })).toEqual([
      'other.yaml  this file is not there: correct BERTH_CONFIG, or leave it unset for the defaults',
    ])
  })
})

describe('the example of the documents', () => {
  const example = `listen: 127.0.0.1:8080
engine: auto            # auto | docker | swarm | kubernetes | process
modules: ./modules
data: ./.berth          # store, environments of the embedded engine, logs
auth: none              # none (loopback only) | keys
models:                 # name -> module + configuration
  minilm: { module: embeddings, max_simul_users: 4 }
shutdown: keep          # keep | stop
module_settings:
  embeddings: { config: {threshold: 1.0}, scale: {min: 0, max: 2}, gpu: {count: 1}, env: {HF_TOKEN: \${HF_TOKEN}}, idle_ttl: 10m }
`
  test('is read', () => {
    const config = load(example, { HF_TOKEN: '0123' }).config()
    expect(config.models.minilm).toEqual({
      module: 'embeddings',
      maxSimulUsers: 4,
      configuration: { module: 'embeddings', max_simul_users: 4 },
      location: 'berth.yaml:7:3',
    })
    expect(JSON.stringify(config.moduleSettings.embeddings)).toBe(
      '{"gpu":{"count":1,"optional":false},"scale":{"min":0,"max":2},"idleTtlMs":600000,"config":{"threshold":1.0},"env":{"HF_TOKEN":"0123"}}',
    )
  })

  test('needs its variable', async () => {
    expect(await problems(example)).toEqual([
      expect.stringMatching(
        /^berth.yaml:10:\d+ module_settings.embeddings.env.HF_TOKEN the environment variable HF_TOKEN is not set/,
      ),
    ])
  })
})

test('everything that is wrong is said at once, each with its place and what to do', async () => {
  const found = await problems(
    `lisen: 127.0.0.1:8080
engine: dokcer
models:
  minilm: { modul: embeddings, max_simul_users: 0 }
  x: hello
module_settings:
  my module: {}
  e: {scale: {min: 3, max: 1}, idle_ttl: 5 min, gpu: {cout: 1}, env: {A: [1]}}
`,
    { BERTH_LOG_LEVEL: 'loud' },
  )
  const expected = [
    /^berth.yaml:1:1 lisen unknown key "lisen", did you mean "listen"\?$/,
    /^berth.yaml:2:9 engine must be auto, docker, .* not "dokcer"$/,
    /^berth.yaml:4:13 models.minilm.modul which module serves this model\? Did you mean "module" by "modul"\?$/,
    /^berth.yaml:4:49 models.minilm.max_simul_users must be a whole number, 1 or more, not 0$/,
    /^berth.yaml:5:6 models.x must be a map of keys, not "hello"$/,
    /^berth.yaml:7:3 module_settings\["my module"\] a module id has letters/,
    /^berth.yaml:8:20 module_settings.e.scale.min 3 is more than max \(1\)/,
    /^berth.yaml:8:42 module_settings.e.idle_ttl must be a duration such as .* not "5 min"$/,
    /^berth.yaml:8:55 module_settings.e.gpu.cout unknown key "cout", did you mean "count"\?$/,
    /^berth.yaml:8:74 module_settings.e.env.A must be text, not a list$/,
    /^environment BERTH_LOG_LEVEL must be debug, info, warn, error or silent, not "loud"$/,
  ]
  for (const pattern of expected) expect(found).toContainEqual(expect.stringMatching(pattern))
  expect(found).toHaveLength(expected.length)
})

test('a file that is no YAML is reported with its line', async () => {
  expect(await problems('listen: [1\nengine: auto')).toEqual([
    expect.stringMatching(/^berth.yaml:2:1 {2}this is no valid YAML/),
  ])
})

test('a document that is no map is reported', async () => {
  expect(await problems('- a\n- b')).toEqual([expect.stringContaining('must be a map of keys, not a list')])
})

describe('models', () => {
  test('come from models and from services with service', () => {
    const { models } = load(
      'models:\n  a: {module: m, temperature: 1.0}\nservices:\n  b: {service: n, offload_seconds: 30}',
    ).config()
    expect(Object.keys(models)).toEqual(['a', 'b'])
    expect(models.b).toMatchObject({
      module: 'n',
      idleTtlMs: 30_000,
      configuration: { service: 'n', offload_seconds: 30 },
    })
    expect(JSON.stringify(models.a?.configuration)).toBe('{"module":"m","temperature":1.0}')
  })

  test('idle_ttl wins over offload_seconds, and negative seconds mean never', () => {
    const { models } = load(
      'models:\n  a: {module: m, offload_seconds: 5, idle_ttl: none}\n  b: {module: m, offload_seconds: -1}',
    ).config()
    expect([models.a?.idleTtlMs, models.b?.idleTtlMs]).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
  })

  test('an alias needs no module', () => {
    expect(load('models:\n  a: {redirect_to: b}').config().models.a).toMatchObject({ redirectTo: 'b' })
  })

  test('a name in both sections, and an entry of two modules, are problems', async () => {
    expect(
      await problems('models:\n  a: {module: m}\nservices:\n  a: {service: m}\n  b: {service: x, module: y}'),
    ).toEqual([
      'berth.yaml:4:3 services.a this model stands under `models` too: keep one of the two',
      'berth.yaml:5:16 services.b.service `module` names another one (y): keep one of the two',
    ])
  })

  test('names that objects have by themselves are ordinary names', () => {
    const { models } = load('models:\n  constructor: {module: m}').config()
    expect(Object.keys(models)).toEqual(['constructor'])
    expect(models.toString).toBeUndefined()
  })
})

describe('the environment', () => {
  test('overrides the file; an empty variable says nothing', () => {
    const env = {
      BERTH_LISTEN: '127.0.0.1:9000',
      BERTH_ENGINE: 'process',
      BERTH_SHUTDOWN: '',
      BERTH_BODY_LIMIT: '1MiB',
      BERTH_DATA: 'there',
      BERTH_QUEUE_LIMIT: '3',
      BERTH_ALLOWED_HOSTS: 'a.example, b.example:80',
      BERTH_RELOAD: 'false',
    }
    const { cwd, config } = load('listen: 127.0.0.1:1\nshutdown: stop\nqueue: {timeout: 5s}', env)
    expect(config()).toMatchObject({
      listen: { host: '127.0.0.1', port: 9000 },
      engine: 'process',
      shutdown: 'stop',
      bodyLimitBytes: 1024 * 1024,
      data: join(cwd, 'there'),
      queue: { limit: 3, timeoutMs: 5_000 },
      allowedHosts: ['a.example', 'b.example:80'],
      reload: false,
    })
  })

  test('memory for modules is a size, or no account is kept', async () => {
    expect(load('memory: 24GiB').config().memoryBytes).toBe(24 * 1024 ** 3)
    expect(load('memory: 24GiB', { BERTH_MEMORY: 'none' }).config().memoryBytes).toBe(Number.POSITIVE_INFINITY)
    expect(await problems('memory: plenty')).toEqual([expect.stringContaining('a size such as 24GiB, or none')])
  })

  test('paths in the file start from the folder of the file', () => {
    const { cwd, config } = load(
      undefined,
      { BERTH_CONFIG: 'etc/b.yaml' },
      { 'etc/b.yaml': 'modules: ./m\ndata: /var/d' },
    )
    expect(config()).toMatchObject({ modules: join(cwd, 'etc/m'), data: '/var/d', file: join(cwd, 'etc/b.yaml') })
  })
})

describe('access', () => {
  const open = 'listen: 0.0.0.0:8080'

  test('an address that others can reach needs a key, and the problem says how to get one', async () => {
    const [problem, ...rest] = await problems(open)
    expect(rest).toEqual([])
    expect(problem).toMatch(
      /^berth.yaml:1:9 listen other machines can reach 0.0.0.0.*auth: keys.*admin.key.*BERTH_ADMIN_KEY/,
    )
  })

  test.each([':8080', '[::]:8080', '192.168.1.5:80', 'berth.example:80'])(
    '%s can be reached by others',
    async (listen) => {
      expect(await problems(undefined, { BERTH_LISTEN: listen })).toEqual([
        expect.stringContaining('environment BERTH_LISTEN other machines'),
      ])
    },
  )

  test.each(['localhost:1', '127.0.0.2:1', '[::1]:1', '8080'])('%s can not', (listen) => {
    expect(load(undefined, { BERTH_LISTEN: listen }).config().auth).toBe('none')
  })

  test('a key that is given turns keys on', () => {
    expect(load(open, { BERTH_ADMIN_KEY: 'k-1' }).config()).toMatchObject({ auth: 'keys', adminKey: 'k-1' })
  })

  test('a key comes from a file, without its line end', () => {
    const env = { BERTH_ADMIN_KEY_FILE: 'key' }
    expect(load(open, env, { key: 'k-2\n' }).config()).toMatchObject({ auth: 'keys', adminKey: 'k-2' })
  })

  test('keys may be on without one given', () => {
    expect(load(`${open}\nauth: keys`).config()).toMatchObject({ auth: 'keys' })
  })

  test('auth: none stays refused on an open address, whatever key is given', async () => {
    expect(await problems(`${open}\nauth: none`, { BERTH_ADMIN_KEY: 'k' })).toHaveLength(1)
  })

  test('a key file that can not be read, two keys, and a key with spaces are problems', async () => {
    expect(await problems('', { BERTH_ADMIN_KEY_FILE: 'nowhere' })).toEqual([
      expect.stringMatching(/^environment BERTH_ADMIN_KEY_FILE .*ENOENT/),
    ])
    expect(await problems('', { BERTH_ADMIN_KEY_FILE: 'f', BERTH_ADMIN_KEY: 'k' })).toEqual([
      expect.stringContaining('keep one of the two'),
    ])
    expect(await problems('', { BERTH_ADMIN_KEY: 'a b' })).toEqual([expect.stringContaining('without spaces')])
  })
})

test('keys that are written and left empty count as not written', () => {
  expect(load('models:\nmodule_settings:\nlisten:\nqueue:\n  limit:').config()).toMatchObject({
    models: {},
    queue: { limit: 64 },
  })
})

test('the configuration can not be changed', () => {
  const config = load('models:\n  a: {module: m, list: [1, {b: 2}]}').config()
  expect(Object.isFrozen(config.models.a?.configuration)).toBe(true)
  expect(() => Object.assign(config.listen, { port: 1 })).toThrow()
})

test('Docker subnets must be ranges that hold a subnet', async () => {
  expect(await problems('docker: {subnets: [10.0.0.0/30, 300.1.1.0/16, x]}')).toEqual([
    expect.stringContaining('docker.subnets[0] 10.0.0.0/30 has no room for a subnet of /28'),
    expect.stringContaining('docker.subnets[1] 300.1.1.0/16 is no IPv4 range'),
    expect.stringContaining('docker.subnets[2] must be an IPv4 range'),
  ])
})
