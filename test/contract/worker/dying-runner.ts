/** Plays a runner that will be killed: starts a worker whose module never lets go, and prints its pid. */
import { WorkerProcess } from './worker-process.ts'

const worker = await WorkerProcess.start({ module: 'loads', callMs: 600_000 })
void worker.load('{"m":{"do":"hang"}}')
while (!worker.printed.includes('hanging')) await new Promise((again) => setImmediate(again))
process.stdout.write(`${worker.process.pid}\n`)
