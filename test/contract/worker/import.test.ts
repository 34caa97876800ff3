import { realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { extraOf, workers } from './support.ts'
import type { Wire } from './worker-process.ts'

const start = workers()

describe('import of a service module', () => {
  it('tells Python version, pid and token at once', async () => {
    const worker = await start({ module: 'yields' })
    expect(worker.hello).toMatchObject({ role: 'control', pid: worker.process.pid, token: 'the token' })
    expect(worker.hello.python).toMatch(/^3\.\d+\.\d+/)
    expect(worker.hello.attachmentNonce).toMatch(/^[0-9a-f]{32}$/)
    expect(await worker.status()).toEqual({ state: 'imported' })
  })

  it('finds siblings under both names as one object, plainly by file name, and by relative path', async () => {
    const worker = await start({
      module: 'siblings',
      models: '{"m":{"steps":1}}',
      serviceConfiguration: '{"width":512}',
    })
    expect(await worker.status()).toEqual({ state: 'imported' })
    const { chunks, end } = await worker.infer('m')
    expect(end).toEqual({ done: true })
    expect(extraOf(chunks)).toEqual({
      name: 'siblings',
      package: '',
      one_object: true,
      inner_one_object: true,
      helper: 'Services.siblings.helper',
      entry_seen_by_helper: true,
      relative: 42,
      plain: 42,
      data: [{ a: 1 }, { a: 1 }],
      directory: join(await realpath(worker.data), 'work'),
      point: 1,
      service_configuration: { width: 512 },
      server_configuration: { services: { m: { steps: 1 } } },
    })
  })

  it('injects None as ServiceConfiguration where there is none, and ServerConfiguration always', async () => {
    const worker = await start({ module: 'siblings', models: '{}' })
    await worker.load('{"m":{}}')
    expect(extraOf((await worker.infer('m')).chunks)).toMatchObject({
      service_configuration: null,
      server_configuration: { services: { m: {} } },
    })
  })

  it('names the SERVICE functions that are missing or not callable', async () => {
    const worker = await start({ module: 'lacks-functions' })
    const { state, error } = (await worker.status()) as { state: string; error: Wire }
    expect(state).toBe('failed')
    expect(error).toMatchObject({
      code: 'LOAD_FAILED',
      details: { missing: ['SERVICE_LOAD_MODELS', 'SERVICE_INFERENCE'], file: 'service.py' },
    })
    expect(error.message).toContain('lacks-functions')
  })

  it.each([
    ['bad-syntax', 'SyntaxError', 'def SERVICE_LOAD_MODELS(models)'],
    ['bad-import', "No module named 'no_such_package_anywhere'", 'import no_such_package_anywhere'],
    ['exits-at-import', 'sys.exit(not today)', 'sys.exit("not today")'],
  ])('keeps the traceback of a failed import (%s)', async (module, message, line) => {
    const worker = await start({ module })
    const { error } = (await worker.status()) as { error: Wire }
    expect(error.code).toBe('LOAD_FAILED')
    expect(error.message).toContain(message)
    expect(error.details?.traceback).toContain(line)
    expect(error.details?.traceback).not.toContain('berth_worker')
  })

  it('names an entry that is not there', async () => {
    const worker = await start({ module: 'yields', entry: 'serv.py' })
    expect(((await worker.status()) as { error: Wire }).error.message).toBe('module yields has no file serv.py')
  })

  it('answers everything with the reason once the import has failed, and still quits', async () => {
    const worker = await start({ module: 'bad-import' })
    const { error } = (await worker.status()) as { error: Wire }
    expect((await worker.load('{"m":{}}')).error).toEqual(error)
    expect((await worker.offload(['m'])).error).toEqual(error)
    expect((await worker.infer('m')).end.error).toEqual(error)
    expect(await worker.quit()).toEqual({ code: 0, signal: null })
  })
})
