import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import type { GpuMemoryAnswer } from '../protocol.ts'

/**
 * What is used of the memory of this module's GPUs, as NVIDIA's tool tells it: sampled in the background and at a bounded
 * rate, so that /health only reads the last sample. Nothing runs where the module has no such device or there is no tool.
 */
export interface GpuMemory {
  /** The last sample; undefined before the first and where there is none to be had. */
  read(): GpuMemoryAnswer | undefined
  /** Models were loaded or offloaded: a sample follows soon. */
  changed(): void
  close(): void
}

const everyMs = 10_000
const soonMs = 500
const limitMs = 5_000

interface Sample {
  readonly atMs: number
  readonly devices: GpuMemoryAnswer['devices']
}

export function startGpuMemory(env: Readonly<Record<string, string | undefined>>): GpuMemory {
  const given = (env.NVIDIA_VISIBLE_DEVICES ?? '')
    .split(',')
    .filter((id) => id !== '' && id !== 'void' && id !== 'none')
  let last: Sample | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = given.length === 0

  function plan(delayMs: number): void {
    clearTimeout(timer)
    if (!closed) timer = setTimeout(sample, delayMs).unref()
  }

  function sample(): void {
    const atMs = performance.now()
    timer = undefined
    measure(given, process.pid).then(
      (devices) => {
        last = { atMs, devices }
        if (timer === undefined) plan(everyMs)
      },
      (error: NodeJS.ErrnoException) => {
        last = undefined
        if (error.code === 'ENOENT' || error.code === 'EACCES') closed = true
        else if (timer === undefined) plan(everyMs)
      },
    )
  }

  plan(soonMs)
  return {
    read: () => last && { ageMs: Math.round(performance.now() - last.atMs), devices: last.devices },
    changed: () => plan(soonMs),
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}

async function measure(given: readonly string[], runner: number): Promise<Sample['devices']> {
  const [gpus, processes] = await Promise.all([
    ask('--query-gpu=index,uuid,memory.used'),
    ask('--query-compute-apps=gpu_uuid,pid,used_memory'),
  ])
  const own = new Map<string, number>()
  for (const [uuid = '', pid = '', used = ''] of processes) {
    const bytes = mebibytes(used)
    if (bytes !== undefined && (await descends(Number(pid), runner))) own.set(uuid, (own.get(uuid) ?? 0) + bytes)
  }
  const devices: Record<string, { used: number; own?: number }> = {}
  for (const [index = '', uuid = '', used = ''] of gpus) {
    const place = placeOf(given, index, uuid)
    const bytes = mebibytes(used)
    const ours = own.get(uuid)
    if (place !== undefined && bytes !== undefined)
      devices[place] = { used: bytes, ...(ours === undefined ? {} : { own: ours }) }
  }
  return devices
}

/** Which of the given devices it is, counted from 0. A container sees only those; the machine itself has more. */
function placeOf(given: readonly string[], index: string, uuid: string): number | undefined {
  const named = given.indexOf(uuid)
  if (named >= 0) return named
  return given.some((id) => /^(GPU|MIG)-/.test(id)) || Number(index) >= given.length ? undefined : Number(index)
}

/** Rows of values; rejects where the tool is not there or fails. */
function ask(query: string): Promise<string[][]> {
  return new Promise((resolve, reject) => {
    const options = { timeout: limitMs, maxBuffer: 1024 * 1024 }
    execFile('nvidia-smi', [query, '--format=csv,noheader,nounits'], options, (error, stdout) => {
      if (error) return reject(error)
      const lines = stdout.split('\n').filter((line) => line.trim() !== '')
      resolve(lines.map((line) => line.split(',').map((value) => value.trim())))
    })
  })
}

function mebibytes(text: string): number | undefined {
  const value = Number(text)
  return text !== '' && Number.isFinite(value) ? value * 1024 * 1024 : undefined
}

/**
 * Is it a process that the runner or the module has started? Many drivers tell a container the numbers of the machine, which
 * are not its own: such a process is nobody that we know, and only the whole device's use is reported.
 */
async function descends(pid: number, ancestor: number): Promise<boolean> {
  let current = pid
  for (let step = 0; step < 64 && current > 0; step += 1) {
    if (current === ancestor) return true
    const status = await readFile(`/proc/${current}/status`, 'latin1').catch(() => '')
    current = Number(/^PPid:\s*(\d+)/m.exec(status)?.[1] ?? 0)
  }
  return false
}
