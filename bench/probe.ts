import { Agent, type RequestOptions, request } from 'node:http'

/** Requests one after the other on one connection, timed on their way: for what a hop adds. */
export interface Probe {
  /** Milliseconds to the first byte of the answer's body, and to its end. */
  once(): Promise<{ readonly firstMs: number; readonly wholeMs: number }>
  close(): void
}

export function createProbe(target: RequestOptions, body: unknown): Probe {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const text = JSON.stringify(body)
  const headers = { ...target.headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  return {
    once: () =>
      new Promise((resolve, reject) => {
        const began = performance.now()
        const call = request({ ...target, agent, method: 'POST', headers }, (answer) => {
          let firstMs: number | undefined
          answer.on('data', () => {
            firstMs ??= performance.now() - began
          })
          answer.on('end', () => {
            if (answer.statusCode !== 200) return reject(new Error(`the probe was answered ${answer.statusCode}`))
            const wholeMs = performance.now() - began
            resolve({ firstMs: firstMs ?? wholeMs, wholeMs })
          })
          answer.on('error', reject)
        })
        call.on('error', reject)
        call.end(text)
      }),
    close: () => agent.destroy(),
  }
}
