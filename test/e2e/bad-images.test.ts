import { once } from 'node:events'
import { chmodSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf, inferFailure, textOf, type WireFailure } from '../support/answers.ts'
import { dockerAvailable } from '../support/docker.ts'
import { plainModule } from '../support/engines.ts'
import { createTestImages } from '../support/images.ts'
import { containersOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'
import { tempFolder } from '../support/temp-folder.ts'

/** Images that are no modules, or none that works; and a Docker that does not let us in. */

const base = 'python:3.13-slim-trixie'
const labels = (id: string, more = '') =>
  `LABEL dev.berth.protocol=1 dev.berth.module='{"id":"${id}","timeouts":{"start":"3s"},"models":{"${id}":{}}${more}}'`

describe.skipIf(!dockerAvailable)('an image', () => {
  const images = createTestImages()
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({ engine: 'docker', modules: { good: { ...plainModule } } })
    await berth.infer('good')
  })
  afterAll(async () => {
    await berth?.close()
    images.remove()
  })

  const add = (source: string) => berth.request('POST', '/api/modules', { source })

  async function othersGoOn(): Promise<void> {
    expect(textOf(await berth.infer('good'))).toBe('0')
    expect((await berth.module('good')).replicas).toMatchObject([{ generation: 1, restarts: 0 }])
  }

  /** Refused when it is added, and then not listed. */
  async function refused(source: string): Promise<WireFailure> {
    const failure = await failureOf(await add(source))
    const { modules } = await berth.json<{ modules: { id: string }[] }>('GET', '/api/modules')
    expect(modules.map(({ id }) => id)).not.toContain(source)
    await othersGoOn()
    return failure
  }

  it('without labels is refused with the labels that it needs', async () => {
    const failure = await refused(base)
    expect(failure).toMatchObject({ status: 422, code: 'MANIFEST_INVALID' })
    expect(failure.message).toContain(base)
    expect(`${failure.message} ${failure.details.remedy}`).toMatch(/dev\.berth\.protocol.*dev\.berth\.module/s)
  })

  it('with a manifest that has mistakes is refused with each of them', async () => {
    const image = await images.build('mistaken', {
      Dockerfile: `FROM ${base}\n${labels('mistaken', ',"idle_tll":5')}\n`,
    })
    const failure = await refused(image)
    expect(failure).toMatchObject({ status: 422, code: 'MANIFEST_INVALID' })
    expect(failure.message).toMatch(/idle_tll.*idle_ttl/)
  })

  it('for another architecture is refused with both of them', async () => {
    const foreign = process.arch === 'arm64' ? 'linux/amd64' : 'linux/arm64'
    const image = images.importEmpty('foreign', foreign, {
      'dev.berth.protocol': '1',
      'dev.berth.module': "'{id: foreign, models: {foreign: {}}}'",
    })
    const failure = await refused(image)
    expect(failure).toMatchObject({ status: 502, code: 'IMAGE_UNAVAILABLE' })
    expect(failure.message).toMatch(foreign === 'linux/arm64' ? /arm64.*amd64/ : /amd64.*arm64/)
  })

  it('that can not be pulled says why, and what to check', async () => {
    const failure = await refused('127.0.0.1:1/no-such/image:1')
    expect(failure).toMatchObject({ status: 502, code: 'IMAGE_UNAVAILABLE' })
    expect(failure.message).toContain('127.0.0.1:1/no-such/image:1')
    expect(failure.details.remedy).toEqual(expect.stringMatching(/./))
  })

  it('that ends at once says so, with its exit code and its last line', async () => {
    const image = await images.build('ends', {
      Dockerfile: `FROM ${base}\n${labels('ends')}\nCMD ["sh", "-c", "echo no license found >&2; exit 42"]\n`,
    })
    expect((await add(image)).status).toBe(202)
    const failure = await inferFailure(berth, 'ends')
    expect(failure).toMatchObject({ status: 502, code: 'WORKLOAD_EXITED', details: { module: 'ends', exitCode: 42 } })
    expect(failure.message).toMatch(/ends.*exit code 42.*no license found/)
    expect(await berth.module('ends')).toMatchObject({ state: 'failed', error: { code: 'WORKLOAD_EXITED' } })
    await othersGoOn()
  })

  it('that never answers is given up after timeouts.start, and its container removed', async () => {
    const image = await images.build('silent', {
      Dockerfile: `FROM ${base}\n${labels('silent')}\nCMD ["sleep", "3600"]\n`,
    })
    expect((await add(image)).status).toBe(202)
    const failure = await inferFailure(berth, 'silent')
    expect(failure).toMatchObject({ status: 504, code: 'START_TIMEOUT', retryable: true })
    expect(failure.message).toMatch(/silent.*3 s.*timeouts\.start/)
    await waitFor(
      20_000,
      'its container is gone',
      async () => !containersOf(berth.instance()).some(({ replica }) => replica === 'silent-0'),
    )
    await othersGoOn()
  })

  it('that answers something else is told so', async () => {
    const image = await images.build('other', {
      'server.py': `
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
`,
      Dockerfile: `FROM ${base}\nCOPY server.py /\n${labels('other')}\nCMD ["python3", "/server.py"]\n`,
    })
    expect((await add(image)).status).toBe(202)
    const failure = await inferFailure(berth, 'other')
    expect(failure).toMatchObject({ status: 502, code: 'RUNNER_PROTOCOL' })
    expect(failure.message).toMatch(/other.*health/)
    await othersGoOn()
  })

  it('with the id of a module that is there is refused', async () => {
    const image = await images.build('good-too', { Dockerfile: `FROM ${base}\n${labels('good')}\n` })
    const failure = await failureOf(await add(image))
    expect(failure).toMatchObject({ status: 422, code: 'DEPENDENCY_CONFLICT' })
    expect(failure.message).toContain('good')
    await othersGoOn()
  })

  it('as the base of a module that has no Python says so', async () => {
    const image = await images.build('bare', {
      Dockerfile: `FROM ${base}\nRUN rm -rf /usr/bin/python3* /usr/local/bin/python*\n`,
    })
    await berth.writeModule('bare', { ...plainModule, 'module.yaml': `image: ${image}\n` })
    await berth.until('bare', ({ state }) => state === 'absent')
    const failure = await inferFailure(berth, 'bare')
    expect(failure).toMatchObject({ code: 'LOAD_FAILED', details: { module: 'bare' } })
    expect(failure.message).toMatch(/Python/)
    await othersGoOn()
  })
})

/** Root may open every socket: as another user, who may only look into all folders. */
const asNobody = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  '--inh-caps=+dac_read_search',
  '--ambient-caps=+dac_read_search',
]

describe.runIf(process.getuid?.() === 0)('a Docker socket', () => {
  it('that this user may not open is named, with the way out, and /readyz says so', async () => {
    const folder = tempFolder()
    const socket = join(folder, 'docker.sock')
    const server = createServer((connection) => connection.destroy()).listen(socket)
    await once(server, 'listening')
    chmodSync(socket, 0o660)
    chmodSync(folder, 0o755)
    const berth = await startBerth({
      engine: 'docker',
      modules: { good: { ...plainModule } },
      env: { DOCKER_HOST: `unix://${socket}` },
      under: asNobody,
      ready: 503,
    })
    try {
      const ready = await berth.request('GET', '/readyz')
      expect(ready.status).toBe(503)
      expect(await ready.text()).toMatch(/this user may not use/)
      const failure = await inferFailure(berth, 'good')
      expect(failure).toMatchObject({ status: 503, code: 'ENGINE_UNAVAILABLE', retryable: true })
      expect(failure.message).toContain(socket)
      expect(`${failure.message} ${failure.details.remedy}`).toMatch(/group/)
      expect((await berth.request('GET', '/healthz')).status).toBe(200)
    } finally {
      await berth.close()
      server.close()
    }
  })
})
