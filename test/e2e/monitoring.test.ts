import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { parse, stringify } from 'yaml'
import { repository } from '../support/docs.ts'
import { plainModule } from '../support/engines.ts'
import { freePort, startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'
import { promtool, promtoolAvailable } from '../support/promtool.ts'

/** The dashboard and the alerts in deploy/ against what a real orchestrator says, by Prometheus's own tools where there are any. */

const deploy = join(repository, 'deploy')
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8')

interface Panel {
  readonly title: string
  readonly targets?: readonly { readonly expr: string }[]
}
interface RuleGroup {
  readonly rules: readonly { readonly alert: string; readonly expr: string }[]
}

const dashboard = JSON.parse(read('grafana/berth.json')) as { readonly panels: readonly Panel[] }
const { groups } = parse(read('prometheus/alerts.yaml')) as { readonly groups: readonly RuleGroup[] }
const rules = groups.flatMap((group) => group.rules)
const queries = [
  ...dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ of: title, expr }))),
  ...rules.map(({ alert, expr }) => ({ of: alert, expr })),
]

let berth: TestBerth
let scraped: string
const adminKey = `berth_${'k'.repeat(43)}`

beforeAll(async () => {
  berth = await startBerth({
    engine: 'process',
    modules: { plain: { ...plainModule } },
    config: 'auth: keys\nmodels:\n  plain: { module: plain }\n',
    env: { BERTH_ADMIN_KEY: adminKey },
  })
  const asAdmin = { authorization: `Bearer ${adminKey}` }
  const asked = await berth.request('POST', '/api/models/plain/infer', {}, { headers: asAdmin })
  expect(await asked.text()).toContain('"done":true')
  scraped = await (await berth.request('GET', '/metrics', undefined, { headers: asAdmin })).text()
})
afterAll(() => berth?.close())

describe('the dashboard and the alerts', () => {
  it('use only metrics that there are, histograms by their parts', () => {
    const types = new Map(
      [...scraped.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
    )
    const series = new Set<string>()
    for (const [name, type] of types) {
      if (type !== 'histogram') series.add(name)
      else for (const part of ['bucket', 'sum', 'count']) series.add(`${name}_${part}`)
    }
    const used = queries.flatMap(({ of, expr }) => [...expr.matchAll(/\bberth_\w+/g)].map(([name]) => ({ of, name })))
    expect(used.filter(({ name }) => !series.has(name))).toEqual([])
    expect(used.length).toBeGreaterThan(40)
  })

  it('ask counters for their rate or increase, as they begin at 0 with every start', () => {
    for (const { of, expr } of queries) {
      const bare = expr.replaceAll(/(rate|increase)\([^[]*\[[^\]]*\]\)/g, '').replaceAll(/\bunless\b.*?offset/g, '')
      const counters = [...bare.matchAll(/\bberth_\w+_total\b(?!\{[^}]*\} > 0)/g)].map(([name]) => name)
      expect(counters, of).toEqual([])
    }
  })

  it('have a panel or an alert for every metric of Berth itself', () => {
    const own = [...scraped.matchAll(/^# TYPE (berth_\S+)/gm)].map(([, name = '']) => name)
    const all = queries.map(({ expr }) => expr).join('\n')
    const unused = own.filter((name) => !/^berth_(process|nodejs)_/.test(name) && !all.includes(name))
    expect(unused).toEqual([])
  })

  it('every alert has a test of its own', () => {
    const tested = read('prometheus/alerts.test.yaml')
    for (const { alert } of rules) expect(tested, alert).toMatch(new RegExp(`alertname: ${alert}\\n *exp_alerts`))
  })
})

describe.skipIf(!promtoolAvailable)('promtool', () => {
  it('takes the alerts and finds that they fire as their tests say', () => {
    const checked = promtool(['check', 'rules', join(deploy, 'prometheus/alerts.yaml')])
    expect(checked.code, checked.output).toBe(0)
    const tested = promtool(['test', 'rules', join(deploy, 'prometheus/alerts.test.yaml')])
    expect(tested.code, tested.output).toBe(0)
  })

  it('takes the scrape example', () => {
    const checked = promtool(['check', 'config', '--syntax-only', join(deploy, 'prometheus/prometheus.yaml')])
    expect(checked.code, checked.output).toBe(0)
  })

  it('takes every query of the dashboard', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-promtool-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const named = queries.map(({ expr }, index) => ({
      record: `panel:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$module', '.*'),
    }))
    await writeFile(join(folder, 'rules.yaml'), stringify({ groups: [{ name: 'panels', rules: named }] }))
    const checked = promtool(['check', 'rules', join(folder, 'rules.yaml')])
    expect(checked.code, checked.output).toBe(0)
  })

  it('takes what /metrics says', () => {
    // It advises on names, too; only what it can't parse is an error.
    const checked = promtool(['check', 'metrics'], scraped)
    expect(checked.output).not.toMatch(/error while linting|parsing/i)
  })
})

describe.skipIf(!promtoolAvailable)('Prometheus with the example configuration', () => {
  it('scrapes Berth with a key of the scope metrics, and has the alerts', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-prometheus-'))
    await cp(join(deploy, 'prometheus'), folder, { recursive: true })
    const made = await berth.request(
      'POST',
      '/api/keys',
      { name: 'prometheus', scopes: ['metrics'] },
      { headers: { authorization: `Bearer ${adminKey}` } },
    )
    await writeFile(join(folder, 'berth.key'), ((await made.json()) as { secret: string }).secret)
    const config = await readFile(join(folder, 'prometheus.yaml'), 'utf8')
    expect(config).toContain('127.0.0.1:8080')
    const changed = config
      .replace('127.0.0.1:8080', new URL(berth.url).host)
      .replaceAll('interval: 15s', 'interval: 1s')
    await writeFile(join(folder, 'prometheus.yaml'), changed)
    const listen = `127.0.0.1:${await freePort()}`
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(folder, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(folder, 'data')}`,
        `--web.listen-address=${listen}`,
      ],
      { stdio: 'ignore' },
    )
    onTestFinished(async () => {
      const gone = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
      child.kill('SIGKILL')
      await gone
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    })
    const query = async (path: string): Promise<string> => {
      const answer = await fetch(`http://${listen}/api/v1/${path}`).catch(() => undefined)
      return answer?.ok ? answer.text() : ''
    }
    await waitFor(60_000, 'Prometheus has scraped', async () =>
      (await query('query?query=berth_inference_total')).includes('"model":"plain"'),
    )
    expect(await query(`query?query=${encodeURIComponent('up{job="berth"}')}`)).toMatch(/"value":\[[\d.]+,"1"\]/)
    const loaded = await query('rules')
    for (const { alert } of rules) expect(loaded).toContain(`"name":"${alert}"`)
  })
})
