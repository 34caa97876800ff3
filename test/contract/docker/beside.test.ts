import { afterAll, describe, expect, it } from 'vitest'
import { dockerAvailable } from '../../support/docker.ts'
import { docker, removeInstances, testInstance } from '../../support/docker-cleanup.ts'
import { testRunnerImage } from '../../support/docker-images.ts'

const instance = testInstance()
const socket = '/var/run/docker.sock'

/** The orchestrator in a container beside its modules (compose): it joins their networks to reach them. */
describe.skipIf(!dockerAvailable)('an orchestrator in a container', () => {
  afterAll(() => removeInstances((each) => each === instance))

  it.each(['none', 'egress'])('reaches its modules on their networks: %s', async (network) => {
    const root = process.cwd()
    const mounts = ['--volume', `${socket}:${socket}`, '--volume', `${root}:${root}:ro`, '--workdir', root]
    const program = ['node', 'test/testdata/docker/beside-modules.ts', instance, await testRunnerImage(), network]
    const marks = ['--label', `dev.berth.instance=${instance}`]
    const said = await docker('run', '--rm', ...marks, ...mounts, 'node:24-trixie-slim', ...program)
    const seen = JSON.parse(said.split('\n').at(-1) ?? '') as { status: number; endpoint: unknown; adopted: unknown }
    expect(seen).toMatchObject({ status: 200, networkPolicy: true })
    expect(seen.adopted).toEqual(seen.endpoint)
    const left = [
      'network',
      'ls',
      '--quiet',
      '--filter',
      `label=dev.berth.instance=${instance}`,
      '--filter',
      'label=dev.berth.module',
    ]
    expect(await docker(...left)).toBe('')
  })
})
