import { existsSync } from 'node:fs'
import { request } from 'node:http'
import type { TestContext } from 'vitest'

/**
 * Is there a Docker daemon for the tests? With BERTH_TEST_DOCKER=required a missing one is an error, so that no
 * Docker test can be skipped unseen.
 */
const socketPath = process.env.DOCKER_HOST?.replace(/^unix:\/\//, '') ?? '/var/run/docker.sock'

export const dockerAvailable: boolean = await probe()

if (!dockerAvailable && process.env.BERTH_TEST_DOCKER === 'required') {
  throw new Error(`BERTH_TEST_DOCKER=required, but no Docker daemon answers at ${socketPath}`)
}

function probe(): Promise<boolean> {
  if (!existsSync(socketPath)) return Promise.resolve(false)
  return new Promise((resolve) => {
    const call = request({ socketPath, path: '/_ping', timeout: 5_000 }, (answer) => {
      answer.resume()
      resolve(answer.statusCode === 200)
    })
    call.on('error', () => resolve(false))
    call.on('timeout', () => call.destroy())
    call.end()
  })
}

/** What only some daemons have is skipped where they lack it, and an error where Docker's tests are mandatory. */
export function notHere(context: TestContext, what: string): void {
  if (process.env.BERTH_TEST_DOCKER === 'required')
    throw new Error(`BERTH_TEST_DOCKER=required, but Docker has no ${what}`)
  context.skip(`Docker has no ${what}`)
}
