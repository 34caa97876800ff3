import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Config } from '../../../orchestrator/config/config.ts'
import { loadConfig } from '../../../orchestrator/config/load.ts'
import { changesForRestart, watchConfig } from '../../../orchestrator/config/watch.ts'
import type { BerthError } from '../../../orchestrator/domain/errors.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'

function watched(cwd: string) {
  const source = { env: {}, cwd }
  const seen: { configs: Config[]; errors: BerthError[] } = { configs: [], errors: [] }
  onTestFinished(
    watchConfig({
      source,
      current: loadConfig(source),
      onChange: (config) => seen.configs.push(config),
      onProblem: (error) => seen.errors.push(error),
      intervalMs: 20,
    }),
  )
  return seen
}

test('a file that appears, changes and goes away is followed; problems leave the configuration as it was', async () => {
  const cwd = tempFolder()
  const seen = watched(cwd)
  writeFiles(cwd, { 'berth.yaml': 'models:\n  a: {module: m}' })
  await vi.waitFor(() => expect(Object.keys(seen.configs.at(-1)?.models ?? {})).toEqual(['a']), 5_000)
  writeFiles(cwd, { 'berth.yaml': 'modls: {}' })
  await vi.waitFor(() => expect(seen.errors.at(-1)?.message).toContain('did you mean "models"'), 5_000)
  expect(seen.configs).toHaveLength(1)
  rmSync(join(cwd, 'berth.yaml'))
  await vi.waitFor(() => expect(seen.configs.at(-1)?.models).toEqual({}), 5_000)
})

test('only keys that are fixed while Berth runs ask for a restart', () => {
  const cwd = tempFolder({ 'berth.yaml': 'listen: 127.0.0.1:1\nmodels: {a: {module: m}}' })
  const before = loadConfig({ env: {}, cwd })
  writeFiles(cwd, { 'berth.yaml': 'listen: 127.0.0.1:2\nmodels: {b: {module: m}}\nshutdown: stop' })
  expect(changesForRestart(before, loadConfig({ env: {}, cwd }))).toEqual(['listen'])
})
