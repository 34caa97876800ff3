import { randomUUID } from 'node:crypto'
import type { BuildOrder, Daemon } from '../daemon.ts'
import { DaemonRefusal } from '../daemon-error.ts'
import { jsonLines } from '../json-lines.ts'
import { BuildProgress } from './progress.ts'
import { type BuildAnswers, serveSession, sessionMethods } from './session.ts'

/**
 * Builds an image with BuildKit, which today's Dockerfiles are written for; what the build asks for is answered in a session
 * beside it. Resolves when it is built; rejects with a DaemonRefusal that says why it failed.
 */
export async function buildImage(
  daemon: Daemon,
  order: BuildOrder,
  answers: BuildAnswers,
  onLine: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const session = randomUUID()
  const endSession = serveSession(await daemon.openSession(session, sessionMethods, signal), answers)
  const progress = new BuildProgress(onLine)
  try {
    const stream = await daemon.build(order, session, signal)
    for await (const record of jsonLines(stream)) progress.note(record)
  } finally {
    progress.end()
    endSession()
  }
  if (progress.failure !== undefined) throw new DaemonRefusal(500, progress.failure)
}
