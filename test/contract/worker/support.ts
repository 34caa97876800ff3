import { afterEach, vi } from 'vitest'
import { WorkerProcess } from './worker-process.ts'

/** Starts workers for the tests of one file and ends them after each. */
export function workers(): (options: Parameters<typeof WorkerProcess.start>[0]) => Promise<WorkerProcess> {
  const started: WorkerProcess[] = []
  afterEach(async () => {
    await Promise.all(started.splice(0).map((worker) => worker.dispose()))
  })
  return async (options) => {
    const worker = await WorkerProcess.start(options)
    started.push(worker)
    return worker
  }
}

/** An array of chunks as the texts in them, joined. */
export function textOf(chunks: readonly Record<string, unknown>[]): string {
  return chunks.map((chunk) => (chunk.response as { text?: string }).text ?? '').join('')
}

/** `extra` of the first chunk. */
export function extraOf([chunk]: readonly Record<string, unknown>[]): Record<string, unknown> {
  const response = chunk?.response as { extra: Record<string, unknown> } | undefined
  return response?.extra ?? {}
}

/** Waits until the check passes: long enough for a busy machine, and no longer than it takes. */
export function eventually(check: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(check, { timeout: 30_000, interval: 20 })
}
