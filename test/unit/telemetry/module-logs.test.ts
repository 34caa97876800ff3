import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { systemClock } from '../../../orchestrator/domain/clock.ts'
import type { LogRecord } from '../../../orchestrator/domain/views.ts'
import {
  createModuleLogs,
  type ModuleLogs,
  type ModuleLogsOptions,
} from '../../../orchestrator/telemetry/module-logs.ts'
import { temporaryFolder } from './temporary.ts'

const record = (message: string): LogRecord => ({
  time: '2026-01-01T00:00:00.000Z',
  level: 'info',
  source: 'module',
  message,
})

function open(directory: string, more: Partial<ModuleLogsOptions> = {}): ModuleLogs {
  const logs = createModuleLogs({ directory, clock: systemClock, onFailure: () => undefined, ...more })
  onTestFinished(() => logs.close())
  return logs
}

const never = new AbortController().signal

async function messages(logs: ModuleLogs, tail?: number, module = 'ocr'): Promise<string[]> {
  const found: string[] = []
  const options = { signal: never, ...(tail === undefined ? {} : { tail }) }
  for await (const { message } of logs.read(module, options)) found.push(message)
  return found
}

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => `line ${from + index}`)

describe('a log', () => {
  it('is read as it was written, each module its own', async () => {
    const logs = open(await temporaryFolder())
    const odd = { ...record('a\n"b"\u0000é😀'), level: 'critical', source: 'installer', replica: 'ocr-1' } as const
    logs.append('ocr', odd)
    logs.append('other', record('elsewhere'))
    const read: LogRecord[] = []
    for await (const each of logs.read('ocr', { signal: never })) read.push(each)
    expect(read).toEqual([{ ...odd, id: expect.any(Number) }])
    expect(await messages(logs, undefined, 'never seen')).toEqual([])
  })

  it.each([
    [0, []],
    [1, ['line 9999']],
    [3, ['line 9997', 'line 9998', 'line 9999']],
    [20_000, numbered(0, 10_000)],
  ])('tail=%i gives the last lines', async (tail, expected) => {
    const logs = open(await temporaryFolder())
    for (const message of numbered(0, 10_000)) logs.append('ocr', record(message))
    expect(await messages(logs, tail)).toEqual(expected)
  })

  it('outlives its writer', async () => {
    const folder = await temporaryFolder()
    const first = open(folder)
    first.append('ocr', record('before'))
    await first.close()
    const second = open(folder)
    second.append('ocr', record('after'))
    expect(await messages(second)).toEqual(['before', 'after'])
  })

  it('keeps one full file, and drops what is older', async () => {
    const folder = await temporaryFolder()
    const logs = open(folder, { maxBytes: 13_000 })
    for (const message of numbered(0, 500)) {
      logs.append('ocr', record(message))
      if (message.endsWith('0')) await logs.flush()
    }
    const kept = await messages(logs)
    expect(kept).toEqual(numbered(500 - kept.length, 500))
    expect(kept.length).toBeGreaterThan(100)
    expect(await messages(logs, 120)).toEqual(numbered(380, 500))
    expect((await readdir(folder)).sort()).toEqual(['ocr.ndjson', 'ocr.ndjson.1'])
    for (const file of await readdir(folder))
      expect((await readFile(join(folder, file))).length).toBeLessThanOrEqual(13_000)
  })

  it('goes on after a line that a crash tore', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'ocr.ndjson'), `${JSON.stringify(record('whole'))}\n{"time":"2026-01-01T00:`)
    const logs = open(folder)
    logs.append('ocr', record('next'))
    expect(await messages(logs)).toEqual(['whole', 'next'])
  })

  it('passes over lines that are no records', async () => {
    const folder = await temporaryFolder()
    const logs = open(folder)
    logs.append('ocr', record('one'))
    await logs.flush()
    await appendFile(join(folder, 'ocr.ndjson'), 'null\n[]\n"x"\n{"message":1}\n\n')
    logs.append('ocr', record('two'))
    expect(await messages(logs)).toEqual(['one', 'two'])
  })

  it('cuts a message without end', async () => {
    const logs = open(await temporaryFolder())
    logs.append('ocr', record('x'.repeat(10_000_000)))
    const [message = ''] = await messages(logs)
    expect(message.length).toBeLessThan(66_000)
    expect(message).toMatch(/x \[cut: \d+ more characters\]$/)
  })

  it('of any module id stays in its folder', async () => {
    const parent = await temporaryFolder()
    const folder = join(parent, 'logs')
    const logs = open(folder)
    const ids = ['../up', '..', '.', 'a/b', 'two words', 'x'.repeat(500), 'é'.repeat(100), 'repo/image:tag']
    for (const id of ids) logs.append(id, record(id))
    for (const id of ids) expect(await messages(logs, undefined, id)).toEqual([id])
    expect(await readdir(parent)).toEqual(['logs'])
    expect(await readdir(folder)).toHaveLength(ids.length)
  })

  it('is gone when removed, and begins anew', async () => {
    const folder = await temporaryFolder()
    const logs = open(folder)
    logs.append('ocr', record('old'))
    await logs.remove('ocr')
    expect(await readdir(folder)).toEqual([])
    logs.append('ocr', record('new'))
    expect(await messages(logs)).toEqual(['new'])
  })

  it('has everything that was written when its process is killed', async () => {
    const folder = await temporaryFolder()
    const source = new URL('../../../orchestrator/telemetry/module-logs.ts', import.meta.url)
    const clock = new URL('../../../orchestrator/domain/clock.ts', import.meta.url)
    const script = `
      const { createModuleLogs } = await import(${JSON.stringify(source.href)})
      const { systemClock } = await import(${JSON.stringify(clock.href)})
      const logs = createModuleLogs({ directory: ${JSON.stringify(folder)}, clock: systemClock, onFailure() {} })
      for (let count = 0; ; count += 1) {
        logs.append('ocr', { time: 't', level: 'info', source: 'module', message: 'line ' + count })
        if (count % 1000 === 0) { await logs.flush(); console.log(count) }
      }`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let flushed = 0
    child.stdout.on('data', (data: Buffer) => {
      flushed = Math.max(flushed, ...data.toString().trim().split('\n').map(Number))
      if (flushed >= 3_000) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const kept = await messages(open(folder))
    expect(kept).toEqual(numbered(0, kept.length))
    expect(kept.length).toBeGreaterThan(flushed)
  })
})

describe('a log that the disk does not take', () => {
  it('costs its lines and nothing else, tells once, and says what is missing when it goes on', async () => {
    const parent = await temporaryFolder()
    const directory = join(parent, 'logs')
    await writeFile(directory, 'a file where the folder should be')
    const failures: unknown[] = []
    const logs = open(directory, { onFailure: (module, error) => failures.push([module, String(error)]) })
    for (const message of ['one', 'two', 'three']) {
      logs.append('ocr', record(message))
      await logs.flush()
    }
    expect(failures).toHaveLength(1)
    await rm(directory)
    logs.append('ocr', record('four'))
    expect(await messages(logs)).toEqual([expect.stringMatching(/^3 log lines are missing here/), 'four'])
  })

  it('comes back when its folder is deleted under it', async () => {
    const parent = await temporaryFolder()
    const directory = join(parent, 'logs')
    const logs = open(directory)
    logs.append('ocr', record('one'))
    await logs.flush()
    await rm(directory, { recursive: true })
    logs.append('ocr', record('lost'))
    await logs.flush()
    logs.append('ocr', record('two'))
    expect((await messages(logs)).at(-1)).toBe('two')
  })

  it('holds a bounded amount in memory while the disk is slow', async () => {
    const directory = await temporaryFolder()
    const logs = open(directory)
    for (let count = 0; count < 200; count += 1) logs.append('ocr', record(`${count} ${'x'.repeat(60_000)}`))
    await logs.flush()
    logs.append('ocr', record('last'))
    const kept = await messages(logs)
    expect(kept.at(-1)).toBe('last')
    expect(kept.length).toBeLessThan(100)
    expect(kept.filter((message) => message.includes('log lines are missing'))).toHaveLength(1)
  })
})

describe('following', () => {
  it('has every line exactly once, whenever it begins', async () => {
    const logs = open(await temporaryFolder())
    const stop = new AbortController()
    let written = 0
    const write = setInterval(() => {
      for (let count = 0; count < 50 && written < 5_000; count += 1) logs.append('ocr', record(`line ${written++}`))
    }, 1)
    const follow = async (): Promise<string[]> => {
      const found: string[] = []
      for await (const { message } of logs.read('ocr', { follow: true, signal: stop.signal })) {
        found.push(message)
        if (message === 'line 4999') break
      }
      return found
    }
    const readers: Promise<string[]>[] = []
    for (const start of [0, 1_000, 2_500, 4_000]) {
      await expect.poll(() => written, { interval: 1, timeout: 8_000 }).toBeGreaterThan(start)
      readers.push(follow())
    }
    for (const found of await Promise.all(readers)) expect(found).toEqual(numbered(0, 5_000))
    clearInterval(write)
  })

  it('with tail=0 has only what comes', async () => {
    const logs = open(await temporaryFolder())
    logs.append('ocr', record('old'))
    const stop = new AbortController()
    const reading = logs.read('ocr', { follow: true, tail: 0, signal: stop.signal })[Symbol.asyncIterator]()
    const first = reading.next()
    logs.append('ocr', record('new'))
    expect((await first).value).toMatchObject(record('new'))
    stop.abort()
    expect((await reading.next()).done).toBe(true)
  })

  it.each(['remove', 'close'] as const)('ends with the log (%s)', async (how) => {
    const logs = open(await temporaryFolder())
    const reading = logs.read('ocr', { follow: true, signal: never })[Symbol.asyncIterator]()
    const first = reading.next()
    logs.append('ocr', record('one'))
    expect((await first).value).toMatchObject(record('one'))
    const next = reading.next()
    await (how === 'remove' ? logs.remove('ocr') : logs.close())
    expect((await next).done).toBe(true)
  })

  it('a reader that does not read loses lines and is told how many', async () => {
    const logs = open(await temporaryFolder())
    const reading = logs.read('ocr', { follow: true, tail: 0, signal: never })[Symbol.asyncIterator]()
    const first = reading.next()
    logs.append('ocr', record('first'))
    await first
    for (let count = 0; count < 200; count += 1) logs.append('ocr', record('x'.repeat(60_000)))
    let lines = 0
    for (;;) {
      const { value } = await reading.next()
      const lost = /^(\d+) log lines are missing/.exec(value?.message ?? '')
      if (lost !== null) {
        expect(lines + Number(lost[1])).toBe(200)
        break
      }
      lines += 1
    }
    expect(lines).toBeLessThan(100)
    logs.append('ocr', record('after'))
    expect((await reading.next()).value).toMatchObject(record('after'))
  })
})

describe('resuming', () => {
  async function recordsAfter(logs: ModuleLogs, after: number): Promise<LogRecord[]> {
    const found: LogRecord[] = []
    for await (const each of logs.read('ocr', { after, signal: never })) found.push(each)
    return found
  }

  it('goes on with the line after any that was read, over a restart and a full file', async () => {
    const directory = await temporaryFolder()
    const first = open(directory, { maxBytes: 12_000 })
    for (const message of numbered(0, 150)) {
      first.append('ocr', record(message))
      if (message.endsWith('0')) await first.flush()
    }
    await first.close()
    const logs = open(directory, { maxBytes: 12_000 })
    for (const message of numbered(150, 170)) logs.append('ocr', record(message))
    const all = await recordsAfter(logs, 0)
    expect((await readdir(directory)).sort()).toEqual(['ocr.ndjson', 'ocr.ndjson.1'])
    expect(all.at(-1)?.message).toBe('line 169')
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length)
    for (const [index, { id = 0 }] of all.entries()) expect(await recordsAfter(logs, id)).toEqual(all.slice(index + 1))
  })

  it('from a line that is no longer kept says so, and goes on with the oldest', async () => {
    const logs = open(await temporaryFolder())
    logs.append('ocr', record('one'))
    const found = await recordsAfter(logs, 17)
    expect(found.map(({ message }) => message)).toEqual([expect.stringContaining('no longer kept'), 'one'])
  })

  it('follows on without a line twice or lost, while lines come', async () => {
    const logs = open(await temporaryFolder())
    let written = 0
    const write = setInterval(() => {
      for (let count = 0; count < 20 && written < 3_000; count += 1) logs.append('ocr', record(`line ${written++}`))
    }, 1)
    onTestFinished(() => clearInterval(write))
    const found: string[] = []
    let after = 0
    while (found.at(-1) !== 'line 2999') {
      let taken = 0
      for await (const { id, message } of logs.read('ocr', { after, follow: true, signal: never })) {
        found.push(message)
        after = id ?? 0
        taken += 1
        if (taken === 100 || message === 'line 2999') break
      }
    }
    expect(found).toEqual(numbered(0, 3_000))
  })

  it('shows nobody a line that is not in the file yet', async () => {
    const directory = await temporaryFolder()
    const logs = open(directory)
    const reading = logs.read('ocr', { follow: true, signal: never })[Symbol.asyncIterator]()
    const next = reading.next()
    for (const message of numbered(0, 100)) logs.append('ocr', record(message))
    const { value } = await next
    expect(await readFile(join(directory, 'ocr.ndjson'), 'utf8')).toContain(JSON.stringify(value))
  })
})

describe('what was copied from a workload', () => {
  const position = (index: number): string => `2026-01-01T00:00:00.${String(index).padStart(9, '0')}Z`

  it('is known by its last position, whatever else was written since, and shows nowhere', async () => {
    const directory = await temporaryFolder()
    const logs = open(directory)
    for (let index = 0; index < 3_000; index += 1)
      logs.append('ocr', record(`"origin":"ocr-0%231 no"`), { workload: 'ocr-0#1', position: position(index) })
    logs.append('ocr', record('x'), { workload: 'ocr-0#12', position: 'far' })
    for (let count = 0; count < 60; count += 1) logs.append('ocr', record('y'.repeat(40_000)))
    await logs.flush()
    const later = open(directory)
    expect(await later.lastPosition('ocr', 'ocr-0#1')).toBe(position(2_999))
    expect(await later.lastPosition('ocr', 'ocr-0#12')).toBe('far')
    expect(await later.lastPosition('ocr', 'ocr-0#2')).toBeUndefined()
    expect(await later.lastPosition('nobody', 'ocr-0#1')).toBeUndefined()
    for await (const each of later.read('ocr', { tail: 100, signal: never })) expect(each).not.toHaveProperty('origin')
  })

  it('is found in the file that was set aside, and across the pieces that are searched', async () => {
    const directory = await temporaryFolder()
    for (const filler of [0, 1, 7, 60, 200]) {
      const logs = open(directory, { maxBytes: 2_500_000 })
      const module = `ocr${filler}`
      logs.append(module, record('x'.repeat(filler)), { workload: 'ocr-0#1', position: `at ${filler}` })
      for (let count = 0; count < 20; count += 1) logs.append(module, record('y'.repeat(52_348)))
      await logs.flush()
      for (let count = 0; count < 50 && filler === 200; count += 1) logs.append(module, record('y'.repeat(40_000)))
      await logs.flush()
      expect(await logs.lastPosition(module, 'ocr-0#1')).toBe(`at ${filler}`)
    }
    expect(await readdir(directory)).toContain('ocr200.ndjson.1')
  })
})

it('a folder that is already there is used', async () => {
  const directory = join(await temporaryFolder(), 'logs')
  await mkdir(directory)
  const logs = open(directory)
  logs.append('ocr', record('one'))
  expect(await messages(logs)).toEqual(['one'])
})
