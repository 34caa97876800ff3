/**
 * Documents can't drift: what stands in README.md and docs/*.md is run. Of the fenced blocks, by their info strings:
 *
 * - `sh`: run line by line by bash against a real orchestrator (embedded engine) that has every module of the documents.
 *   Each line must end well; in `sh fails` the last one must not. `berth` and `npm run berth --` are the command,
 *   `127.0.0.1:8080` is where the orchestrator listens. A `text output` block right after it: these lines were printed,
 *   in this order (`...` stands for anything); `json output`: this and nothing else was.
 * - `python NAME/service.py`, and any language with `NAME/file`: a file of the module NAME. Every module is loaded and
 *   asked, and must answer; with `fails` behind it the answer must be an error.
 * - `yaml berth.yaml`, `yaml module.yaml`: read by the real readers and held against the published schemas.
 * - `json`: must parse; `json NAME` must be valid by the schema NAME of /openapi.json.
 * - anything else is not run.
 *
 * `minilm` is here a small stand-in, since the real one installs packages: .ci/first-success runs that.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { manifestSchema, readModuleYaml } from '../../orchestrator/catalog/module-yaml.ts'
import { overrides } from '../../orchestrator/config/environment.ts'
import { loadConfig } from '../../orchestrator/config/load.ts'
import { configSchema } from '../../orchestrator/config/schema.ts'
import { errorTable } from '../../orchestrator/domain/errors.ts'
import {
  anchorsOf,
  codesIn,
  commandsOf,
  type Document,
  holds,
  keysOf,
  linksOf,
  modulesOf,
  readDocuments,
  repository,
  rowsOf,
} from '../support/docs.ts'
import { curl, type DocsShell, openDocsShell } from '../support/docs-shell.ts'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'

const documents = readDocuments()
const modules = modulesOf(documents)
const blocks = (...languages: string[]) =>
  documents.flatMap((document) => document.blocks).filter(({ language }) => languages.includes(language))

const standIn = {
  'module.yaml': 'models: [minilm]\n',
  'service.py': `
def SERVICE_LOAD_MODELS(Models): pass
def SERVICE_OFFLOAD_MODELS(Models): pass
def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"extra": {"embedding": [0.6, 0.8]}}
`,
}

let berth: TestBerth
let shell: DocsShell
let openapi: OpenApi

interface OpenApi {
  readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly components: { readonly schemas: Readonly<Record<string, object>> }
}

beforeAll(async () => {
  berth = await startBerth({ engine: 'process', modules: { ...modules, embeddings: standIn } })
  openapi = await berth.json<OpenApi>('GET', '/openapi.json')
  shell = await openDocsShell(berth.url)
})
afterAll(async () => {
  await berth?.close()
  await shell?.close()
})

describe('commands', () => {
  for (const block of blocks('sh')) {
    const commands = commandsOf(block)
    it.skipIf(curl === undefined && block.text.includes('curl '))(`${block.at} ${commands[0]}`, async () => {
      const printed: string[] = []
      for (const [index, command] of commands.entries()) {
        const { code, output } = await shell.run(command)
        printed.push(output)
        const fails = block.words.includes('fails') && index === commands.length - 1
        expect(code === 0, `${command}\nended with ${code}:\n${output}`).toBe(!fails)
      }
      const whole = printed.join('')
      if (block.output?.language === 'json') expect(JSON.parse(whole)).toEqual(JSON.parse(block.output.text))
      else if (block.output !== undefined) expect(holds(whole, block.output.text), `printed:\n${whole}`).toBe(true)
    })
  }
})

describe('modules', () => {
  for (const block of blocks('python').filter(({ words }) => words[0]?.endsWith('/service.py'))) {
    const id = block.words[0]?.split('/')[0] ?? ''
    it(`${block.at} ${id} is loaded and asked`, async () => {
      const { models } = await berth.until(id, ({ models, error }) => models.length > 0 || error !== undefined)
      expect(models).not.toHaveLength(0)
      for (const model of models) {
        const frames = await berth.infer(model, { conversation: [{ role: 'user', content: 'a question' }] })
        const expected = block.words.includes('fails') ? { error: expect.anything() } : { done: true }
        expect(frames.at(-1), JSON.stringify(frames.at(-1))).toMatchObject(expected)
      }
    })
  }
})

describe('blocks', () => {
  const ajv = new Ajv2020({ strict: false })
  const byConfig = ajv.compile(configSchema)
  const byManifest = ajv.compile(manifestSchema)

  it.each(blocks('yaml').filter(({ words }) => words[0]?.endsWith('module.yaml')))('$at is a module.yaml', (block) => {
    const options = { file: block.at, subject: block.at, details: {} }
    expect(() => readModuleYaml(block.text, options)).not.toThrow()
    expect(byManifest(parse(block.text)), JSON.stringify(byManifest.errors)).toBe(true)
  })

  it.each(blocks('yaml').filter(({ words }) => words[0] === 'berth.yaml'))('$at is a berth.yaml', async (block) => {
    const place = await mkdtemp(join(shell.folder, 'config-'))
    for (const [, secret = ''] of block.text.matchAll(/\$\{file:([^}]+)\}/g)) {
      await mkdir(dirname(join(place, secret)), { recursive: true })
      await writeFile(join(place, secret), 'a secret\n')
    }
    await writeFile(join(place, 'berth.yaml'), block.text)
    expect(() => loadConfig({ env: {}, cwd: place })).not.toThrow()
    const plain = block.text.replaceAll(/\$\{[^}]*\}/g, 'text')
    expect(byConfig(parse(plain)), JSON.stringify(byConfig.errors)).toBe(true)
  })

  it.each(blocks('json'))('$at is JSON', (block) => {
    const value: unknown = JSON.parse(block.text)
    const [name = ''] = block.words
    const schemas = openapi.components.schemas
    if (schemas[name] === undefined) return
    const check = new Ajv2020({ strict: false }).addSchema({ $id: 'api', ...openapi })
    const valid = check.validate({ $ref: `api#/components/schemas/${name}` }, value)
    expect(valid, JSON.stringify(check.errors)).toBe(true)
  })

  it.each(documents.map((document) => [document.name, document] as const))(
    'links of %s lead somewhere',
    (_, document) => {
      for (const { file, anchor } of linksOf(document)) {
        expect(existsSync(join(repository, file)), file).toBe(true)
        const target = documents.find(({ name }) => name === file)
        if (anchor !== undefined && target !== undefined) expect([...anchorsOf(target.text)]).toContain(anchor)
      }
    },
  )
})

describe('completeness', () => {
  const named = (name: string): Document => {
    const found = documents.find((document) => document.name === name)
    if (found === undefined) throw new Error(`there is no ${name}`)
    return found
  }
  const ofUsers = documents.filter(({ name }) => name !== 'docs/runner-protocol.md' && name !== 'docs/architecture.md')
  const routesIn = (document: Document) =>
    [...document.text.matchAll(/`(GET|POST|PUT|PATCH|DELETE) (\/[^`?\s]*)[^`]*`/g)].map(
      ([, method, path]) => `${method} ${path}`,
    )
  /** Served, and left out of the document that they serve. */
  const unlisted = ['GET /openapi.json', 'GET /docs']

  it('every route is in docs/api.md, and every route of the documents is there', async () => {
    const routes = Object.entries(openapi.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const documented = new Set(routesIn(named('docs/api.md')))
    expect([...routes, ...unlisted].filter((route) => !documented.has(route))).toEqual([])
    expect(ofUsers.flatMap(routesIn).filter((route) => ![...routes, ...unlisted].includes(route))).toEqual([])
    for (const route of unlisted) expect((await berth.request('GET', route.slice('GET '.length))).ok).toBe(true)
  })

  it('every command and every option is in docs/api.md, and every command of the documents is there', async () => {
    const api = named('docs/api.md').text
    const commands = await subcommands('')
    for (const command of [...commands, ...(await subcommands('environments')).map((name) => `environments ${name}`)]) {
      expect(api, `berth ${command}`).toMatch(new RegExp(`\`berth ${command}[ \`]`))
      const { output } = await shell.run(`berth ${command} --help`)
      for (const [, option = ''] of output.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)) {
        expect(api, `${option} of ${command}`).toContain(option)
      }
    }
    const used = ofUsers
      .flatMap((document) => codesIn(document.text))
      .flatMap((code) => /^berth ([a-z]+)/.exec(code)?.[1] ?? [])
    expect(used.filter((command) => !commands.includes(command))).toEqual([])
  })

  async function subcommands(of: string): Promise<readonly string[]> {
    const { output } = await shell.run(`berth ${of} --help`)
    const [list = ''] = output.slice(output.indexOf('\nCommands:')).split('\n\n')
    return [...list.matchAll(/^ {2}([a-z]+)/gm)].map((match) => match[1] ?? '').filter((name) => name !== 'help')
  }

  it('every key of berth.yaml is in docs/operating.md, with its default and its variable', () => {
    const rows = rowsOf(named('docs/operating.md').text)
    const variables = new Map(Object.entries(overrides).map(([name, { path }]) => [path.join('.'), name]))
    for (const [key, byDefault] of keysOf(configSchema)) {
      if (key.includes('<id>')) continue
      const row = rows.find((row) => row.length === 4 && row[0] === `\`${key}\``)
      expect(row, key).toBeDefined()
      if (byDefault !== undefined) expect(row?.[1], key).toBe(`\`${shown(byDefault)}\``)
      expect(row?.[2], key).toBe(variables.has(key) ? `\`${variables.get(key)}\`` : '')
    }
  })

  it('every key of a model and of module_settings is in docs/operating.md', () => {
    const { text: whole } = named('docs/operating.md')
    const inner = [...keysOf(configSchema).keys()].flatMap((key) => /<id>\.([a-z_]+)/.exec(key)?.[1] ?? [])
    expect(inner).toContain('redirect_to')
    expect([...new Set(inner)].filter((key) => !codesIn(whole).includes(key))).toEqual([])
  })

  it('every key of module.yaml is in docs/modules.md, with its default', () => {
    const rows = rowsOf(named('docs/modules.md').text)
    for (const [key, byDefault] of keysOf(manifestSchema)) {
      if (key.includes('<id>')) continue
      const row = rows.find((row) => row.length === 3 && row[0] === `\`${key}\``)
      expect(row, key).toBeDefined()
      if (byDefault !== undefined) expect(row?.[1], key).toBe(`\`${shown(byDefault)}\``)
    }
  })

  it('every error code is in docs/operating.md with its status, and no other', () => {
    const rows = rowsOf(named('docs/operating.md').text).filter(
      (row) => /^`[A-Z_]+`$/.test(row[0] ?? '') && row.length === 5,
    )
    const documented = Object.fromEntries(
      rows.map(([code = '', status, retry]) => [code.slice(1, -1), [Number(status), retry === 'yes']]),
    )
    const known = Object.entries(errorTable).map(([code, { status, retryable }]) => [code, [status, retryable]])
    expect(documented).toEqual(Object.fromEntries(known))
  })

  it('every metric is in docs/operating.md, and no other', async () => {
    await berth.infer('minilm')
    const scraped = await (await berth.request('GET', '/metrics')).text()
    const metrics = [...scraped.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1] ?? '')
    const patterns = codesIn(named('docs/operating.md').text).filter((code) => /^berth_[a-z_]+\*?$/.test(code))
    const covers = (pattern: string, metric: string) =>
      pattern.endsWith('*') ? metric.startsWith(pattern.slice(0, -1)) : metric === pattern
    expect(metrics.filter((metric) => !patterns.some((pattern) => covers(pattern, metric)))).toEqual([])
    expect(patterns.filter((pattern) => !metrics.some((metric) => covers(pattern, metric)))).toEqual([])
  })

  function shown(value: unknown): string {
    return typeof value === 'string' ? value : JSON.stringify(value)
  }
})
