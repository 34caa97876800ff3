import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { eventually, extraOf, textOf, workers } from './support.ts'

const start = workers()

describe('what a module does wrong', () => {
  it.each([
    ['fails', 'ValueError: the reason', 'raise ValueError("the reason")'],
    ['fails_at_once', "KeyError: 'at once'", 'raise KeyError("at once")'],
    ['exits', 'sys.exit(3)', 'sys.exit(3)'],
  ])(
    'an exception (%s) is INFERENCE_FAILED with message and traceback, and the slot goes on',
    async (what, message, line) => {
      const worker = await start({ module: 'yields' })
      const slot = await worker.openSlot()
      const { error } = (await slot.infer('m', { do: what })).end
      expect(error).toMatchObject({ code: 'INFERENCE_FAILED', origin: 'module', retryable: false })
      expect(error?.message).toContain("module yields: inference of model 'm' failed")
      expect(error?.message).toContain(message)
      expect(error?.details?.traceback).toContain(line)
      expect(error?.details?.traceback).not.toContain('berth_worker')
      expect((await slot.infer('m', { do: 'texts' })).end).toEqual({ done: true })
    },
  )

  it.each(['out_of_memory', 'out_of_gpu_memory'])('%s is OUT_OF_MEMORY', async (what) => {
    const worker = await start({ module: 'yields' })
    expect((await worker.infer('m', { do: what })).end.error?.code).toBe('OUT_OF_MEMORY')
  })

  it.each([
    ['no_dict', "yielded str: 'just text'"],
    ['bare_bytes', 'yielded bytes (3 bytes)'],
    ['not_a_number', 'yielded NaN at extra.scores[1]'],
    ['an_object', 'yielded a object at extra.inner.thing'],
    ['contains_itself', 'contains itself at extra.loop'],
    ['text_of_bytes', "yielded 'text' as bytes (3 bytes)"],
    ['files_no_list', "yielded 'files' as dict"],
    ['a_number', 'SERVICE_INFERENCE returned int'],
  ])('a yield that can not be sent (%s) is named', async (what, message) => {
    const worker = await start({ module: 'yields' })
    const { error } = (await worker.infer('m', { do: what })).end
    expect(error?.code).toBe('INFERENCE_FAILED')
    expect(error?.message).toContain(message)
  })

  it('a model that is not there is MODEL_NOT_FOUND, and names those that are', async () => {
    const worker = await start({ module: 'yields' })
    const { error } = (await worker.infer('other')).end
    expect(error).toMatchObject({ code: 'MODEL_NOT_FOUND', message: expect.stringContaining('it offers m') })
  })

  it('parameters that are nested too deeply are REQUEST_INVALID', async () => {
    const worker = await start({ module: 'yields' })
    const deep = '['.repeat(100_000) + ']'.repeat(100_000)
    expect((await worker.infer('m', `{"x":${deep}}`)).end.error?.code).toBe('REQUEST_INVALID')
  })

  it('parameters that are no UTF-8 are REQUEST_INVALID, and the slot goes on', async () => {
    const worker = await start({ module: 'yields' })
    const slot = await worker.openSlot()
    slot.stream.send('I', Buffer.from('{"model":"m","config":{},"parameters":{"x":"\xff"}}', 'latin1'))
    expect((await slot.reply()).end.error?.code).toBe('REQUEST_INVALID')
    expect((await slot.infer('m', { do: 'texts' })).end).toEqual({ done: true })
  })

  it('os._exit and a crash end the process, visibly', async () => {
    const leaving = await start({ module: 'yields' })
    const slot = await leaving.openSlot()
    slot.request('m', { do: 'dies' })
    expect(await leaving.exited).toEqual({ code: 9, signal: null })
    const crashing = await start({ module: 'yields' })
    const other = await crashing.openSlot()
    other.request('m', { do: 'crashes' })
    expect(await crashing.exited).toEqual({ code: null, signal: 'SIGSEGV' })
    await eventually(() => expect(crashing.printed).toContain('service.py'))
  })
})

describe('socket.setdefaulttimeout of a module', () => {
  it('does not reach the connections of the worker', async () => {
    const worker = await start({ module: 'yields' })
    const [idle, busy] = [await worker.openSlot(), await worker.openSlot()]
    const { default_timeout: seconds } = extraOf((await busy.infer('m', { do: 'yielded' })).chunks)
    const until = performance.now() + 3_000 * Number(seconds)
    while (performance.now() < until) await busy.infer('m', { do: 'texts' })
    expect((await idle.infer('m', { do: 'texts' })).end).toEqual({ done: true })
  })
})

describe('cancelling', () => {
  it('closes the generator at its next yield, so that finally runs, and tells that the slot has ended', async () => {
    const worker = await start({ module: 'yields' })
    const slot = await worker.openSlot('the one')
    slot.request('m', { do: 'counts_closing', mark: 'A' })
    await slot.stream.next()
    slot.stream.socket.destroy()
    await eventually(() => expect(worker.printed).toContain('closed A'))
    await eventually(() => expect(worker.endedSlots).toEqual(['the one']))
    expect((await worker.infer('m', { do: 'texts' })).end).toEqual({ done: true })
  })

  it('says only after the end of a module that computes on that its slot has ended', async () => {
    const worker = await start({ module: 'yields' })
    const slot = await worker.openSlot(1)
    const file = join(worker.data, 'go')
    slot.request('m', { do: 'waits_for_file', file })
    await eventually(() => expect(worker.printed).toContain('waiting'))
    slot.stream.socket.destroy()
    expect((await worker.infer('m', { do: 'texts' })).end).toEqual({ done: true })
    expect(worker.endedSlots).not.toContain(1)
    await writeFile(file, '')
    await eventually(() => expect(worker.endedSlots).toContain(1))
  })

  it('closes generators whose yields could not be sent', async () => {
    const worker = await start({ module: 'asynchronous' })
    await worker.load('{"m":{}}')
    const slot = await worker.openSlot()
    slot.request('m', { do: 'generator', count: 1_000_000 })
    await slot.stream.next()
    slot.stream.socket.destroy()
    await eventually(() => expect(worker.printed).toContain('async closed'))
  })
})

describe.skipIf(process.platform !== 'linux')('a slow reader', () => {
  it('holds the module back instead of growing the worker', async () => {
    const worker = await start({ module: 'yields' })
    const slot = await worker.openSlot()
    slot.stream.socket.pause()
    const before = residentBytes(worker.process.pid)
    slot.request('m', { do: 'counts_closing', mark: 'B' })
    // It has filled the buffers and waits in the kernel: the number of its yields stands still.
    let yielded = 0
    let timesSeen = 0
    await eventually(async () => {
      const now = extraOf((await worker.infer('m', { do: 'yielded' })).chunks).yielded as number
      timesSeen = now > 0 && now === yielded ? timesSeen + 1 : 0
      yielded = now
      expect(timesSeen).toBe(5)
    })
    expect(residentBytes(worker.process.pid) - before).toBeLessThan(8_000_000)
    slot.stream.socket.destroy()
    await eventually(() => expect(worker.printed).toContain('closed B'))
  })
})

describe('forks', () => {
  it('children that come back into the worker end there, and requests go on', async () => {
    const worker = await start({ module: 'forks' })
    expect(await worker.load('{"m":{}}')).toMatchObject({ ok: { loaded: ['m'] } })
    const { chunks, end } = await worker.infer('m')
    expect(textOf(chunks)).toBe('abc')
    expect(end).toEqual({ done: true })
    await eventually(() => expect(worker.printed).toContain('closed in the worker'))
    expect(worker.printed).not.toContain('closed in a child')
    expect(await worker.load('{"m":{}}')).toMatchObject({ ok: { loaded: ['m'] } })
    expect(await worker.quit()).toEqual({ code: 0, signal: null })
  })

  it('process pools work', async () => {
    const worker = await start({ module: 'forks' })
    expect(extraOf((await worker.infer('m', { do: 'pool' })).chunks)).toEqual({ squares: [1, 4, 9] })
  })

  it('a child that stays behind does not hold connections open, and programs get none', async () => {
    const worker = await start({ module: 'forks' })
    const slot = await worker.openSlot()
    const { child } = extraOf((await slot.infer('m', { do: 'linger' })).chunks) as { child: number }
    try {
      expect(extraOf((await slot.infer('m', { do: 'descriptors' })).chunks)).toEqual({ inherited: 0 })
      worker.process.kill('SIGKILL')
      expect(await slot.stream.next()).toBeUndefined()
    } finally {
      process.kill(child, 'SIGKILL')
    }
  })
})

function residentBytes(pid: number | undefined): number {
  const pages = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]
  return Number(pages) * 4096
}
