import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findTarget, listenUrl } from '../../../orchestrator/cli/target.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'berth-cli-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('where the orchestrator is', () => {
  it('is the default without anything said', async () => {
    expect(await findTarget({}, folder)).toEqual({
      url: 'http://127.0.0.1:8080',
      localUrl: 'http://127.0.0.1:8080',
      local: true,
      data: path.join(folder, '.berth'),
    })
  })

  it('BERTH_URL wins over BERTH_LISTEN, and that over berth.yaml', async () => {
    await writeFile(path.join(folder, 'berth.yaml'), 'listen: 127.0.0.1:$' + '{PORT}\ndata: state\nmodels: {}\n')
    const env = { PORT: '9001' }
    expect(await findTarget(env, folder)).toMatchObject({
      url: 'http://127.0.0.1:9001',
      data: path.join(folder, 'state'),
    })
    expect((await findTarget({ ...env, BERTH_LISTEN: ':9002' }, folder)).url).toBe('http://127.0.0.1:9002')
    const remote = await findTarget({ ...env, BERTH_URL: 'https://berth.example/', BERTH_KEY: 'k' }, folder)
    expect(remote).toMatchObject({
      url: 'https://berth.example',
      localUrl: 'http://127.0.0.1:9001',
      local: false,
      key: 'k',
    })
  })

  it('a berth.yaml that can not be read is left for the orchestrator to report', async () => {
    await writeFile(path.join(folder, 'berth.yaml'), 'listen: [\n')
    expect((await findTarget({}, folder)).url).toBe('http://127.0.0.1:8080')
  })

  it('an address for every interface is reached over loopback', () => {
    expect(listenUrl('0.0.0.0:80')).toBe('http://127.0.0.1:80')
    expect(listenUrl('[::]:80')).toBe('http://[::1]:80')
    expect(listenUrl('9000')).toBe('http://127.0.0.1:9000')
    expect(listenUrl('nonsense')).toBe('http://127.0.0.1:8080')
  })
})
