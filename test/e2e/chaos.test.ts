import { describe, expect, it } from 'vitest'
import { measureAdoption } from '../chaos/adoption.ts'
import { runChaos } from '../chaos/chaos.ts'
import { allFaults } from '../chaos/faults/all.ts'
import { gracefulPaths, runGraceful } from '../chaos/graceful.ts'
import { dockerAvailable } from '../support/docker.ts'
import { engines } from '../support/engines.ts'

/**
 * The short form of `npm run chaos`, for half a minute. Every fault that this machine allows may come but one: a daemon that is
 * killed may forget a container that it was just starting, whose address the next one then gets; that is left to the long form.
 */
const faults = allFaults.map(({ name }) => name).filter((name) => name !== 'dockerd kill -9')
const say = (text: string): void => console.error(text)

describe.each(engines)('on the %s engine', (engine) => {
  it('killed at random under load, everything comes to rest: nothing orphaned, doubled, lost or stuck', async ({
    signal,
  }) => {
    const report = await runChaos({
      engine,
      seed: 4,
      kills: 20,
      seconds: 30,
      faults,
      paceMs: 800,
      ownDaemon: true,
      say,
      signal,
    })
    expect(report.violations).toEqual([])
    expect(report.kills).toBeGreaterThan(0)
    expect(report.requests('answered')).toBeGreaterThan(0)
  })

  it.each(gracefulPaths)('$name: no request fails', async (path) => {
    const { failed, requests } = await runGraceful(engine, path, 120, new AbortController().signal)
    expect(failed).toEqual([])
    expect(requests).toBeGreaterThanOrEqual(120)
  })
})

it.skipIf(!dockerAvailable)('kill -9 of the orchestrator: every replica is taken over', async () => {
  expect((await measureAdoption(3, say)).lost).toEqual([])
})
