import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { createDockerEngine, type DockerEngine } from '../../../orchestrator/engines/docker/docker-engine.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker, removeInstances, testInstance } from '../../support/docker-cleanup.ts'

/** One orchestrator an instance and daemon: processes of their own, since one process is one orchestrator. */
describe.skipIf(!dockerAvailable)('an instance', () => {
  const script = 'test/testdata/docker/hold-instance.ts'
  const instances: string[] = []
  const others: ChildProcess[] = []
  const opened: DockerEngine[] = []

  afterEach(async () => {
    for (const other of others.splice(0)) other.kill('SIGKILL')
    await Promise.all(opened.splice(0).map((engine) => engine.close()))
    await removeInstances((each) => instances.includes(each))
  })

  function fresh(): string {
    const instance = testInstance()
    instances.push(instance)
    return instance
  }

  /** Another orchestrator; resolves with it and the first thing that it says. */
  async function another(program: string, ...args: readonly string[]) {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    others.push(child)
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const next = async (): Promise<string> => String((await lines.next()).value)
    return { child, next, said: await next() }
  }
  const other = (instance: string, folder = 'another') => another(process.execPath, script, instance, folder)

  async function take(instance: string, folder = 'mine'): Promise<void> {
    const options = { instance, folder, runnerImage: 'berth-test/none', repositoryRoot: process.cwd() }
    const engine = createDockerEngine({ ...options, env: process.env })
    opened.push(engine)
    await engine.connect(AbortSignal.timeout(60_000))
  }

  it('is refused while another orchestrator has it, and free as soon as that is killed', async () => {
    const instance = fresh()
    const { child, said } = await other(instance)
    expect(said).toBe('holds')
    await expect(take(instance)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(
        `The instance ${instance} is another Berth's on this Docker (process ${child.pid}`,
      ),
      details: { field: 'instance', remedy: expect.stringContaining('BERTH_INSTANCE') },
    })
    child.kill('SIGKILL')
    await once(child, 'exit')
    await take(instance)
  })

  it('is refused to that other one too, and no other instance is concerned', async () => {
    const [instance, free] = [fresh(), fresh()]
    await take(instance)
    expect((await other(instance)).said).toContain(`is another Berth's on this Docker (process ${process.pid}`)
    expect((await other(free)).said).toBe('holds')
  })

  it('is given back by an orchestrator that ends', async () => {
    const instance = fresh()
    const { child, next } = await other(instance)
    child.stdin?.end()
    expect(await next()).toBe('gave it back')
    await take(instance)
  })

  it('goes to exactly one of several that begin together, however often', async () => {
    const instance = fresh()
    for (const _round of ['none has had it', 'one was killed', 'one was killed again']) {
      const all = await Promise.all(['a', 'b', 'c', 'd'].map((folder) => other(instance, folder)))
      expect(all.map(({ said }) => said.slice(0, 7)).toSorted()).toEqual(['holds', 'refused', 'refused', 'refused'])
      for (const { child } of all) child.kill('SIGKILL')
      await Promise.all(all.map(({ child }) => child.exitCode ?? child.signalCode ?? once(child, 'exit')))
    }
    const owners = ['--filter', `label=dev.berth.instance=${instance}`, '--filter', 'label=dev.berth.role=owner']
    expect((await docker('volume', 'ls', '--quiet', ...owners)).split('\n')).toHaveLength(1)
  })

  it('is refused while an orchestrator in a container has it, and free when that container has ended', async () => {
    const instance = fresh()
    const root = process.cwd()
    const socket = '/var/run/docker.sock'
    const mounts = ['--volume', `${socket}:${socket}`, '--volume', `${root}:${root}:ro`, '--workdir', root]
    const marks = ['--label', `dev.berth.instance=${instance}`, '--name', `${instance}-orchestrator`]
    const run = ['run', '--interactive', ...marks, ...mounts, 'node:24-trixie-slim', 'node', script, instance, 'its']
    expect((await another('docker', ...run)).said).toBe('holds')
    const id = await docker('inspect', '--format', '{{.Id}}', `${instance}-orchestrator`)
    await expect(take(instance)).rejects.toThrow(`is another Berth's on this Docker (container ${id.slice(0, 12)})`)
    await docker('kill', id)
    await take(instance)
  })

  it('of an orchestrator that can not be seen from here is left to a human, but for the same data folder', async () => {
    const instance = fresh()
    const holder = { host: 'elsewhere', pid: 7, started: '1', boot: 'b', namespace: 'n', folder: 'theirs' }
    const marks = {
      instance,
      role: 'owner',
      generation: '1',
      owner: JSON.stringify(holder),
    }
    const volume = `berth-${instance}-owner-1`
    const pairs = Object.entries(marks).flatMap(([name, value]) => ['--label', `dev.berth.${name}=${value}`])
    await docker('volume', 'create', ...pairs, volume)
    await expect(take(instance)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/may still be another Berth's .*process 7 on elsewhere/),
      details: { remedy: expect.stringContaining(`docker volume rm ${volume}`) },
    })
    await take(instance, 'theirs')
  })
})
