import { setTimeout as delay } from 'node:timers/promises'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { added, modules, scaled } from './modules.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { World } from './world.ts'

/**
 * What was asked for and acknowledged: modules switched off and on, scaled, one added and removed, while everything else
 * goes on. A call whose answer was lost leaves either state; an acknowledged one must be found again, whatever died since.
 */
type Wish = 'enabled' | 'disabled' | 'absent' | Scaled
/** So many replicas. */
type Scaled = '1' | '2' | '3'

interface Known {
  /** More than one while the answer to a change is not known. */
  readonly possible: ReadonlySet<Wish>
  /** Until then it may have been this, milliseconds of the process. */
  readonly lastMs: Map<Wish, number>
}

/** With `wait`, a start in its longest back-off included. */
const callLimitMs = 120_000
/** Only these are switched: the others are there for the faults. */
const switched = ['narrow', 'double'] as const
const scaleOf = `scale of ${scaled}`
const scales: readonly Scaled[] = ['1', '2', '3']

export class Desired {
  readonly #world: World
  readonly #report: Report
  readonly #known = new Map<string, Known>()

  constructor(world: World, report: Report) {
    this.#world = world
    this.#report = report
    for (const id of Object.keys(modules)) this.#set(id, ['enabled'])
    this.#set(added.id, ['absent'])
    this.#set(scaleOf, ['2'])
  }

  /** May the module have been disabled at any time since then? */
  maybeDisabled(id: string, sinceMs: number): boolean {
    return this.#maybe(id, 'disabled', sinceMs)
  }

  maybeAbsent(id: string, sinceMs: number): boolean {
    return this.#maybe(id, 'absent', sinceMs)
  }

  /** Modules that are surely switched on. */
  enabled(): readonly string[] {
    return [...this.#known].flatMap(([id, { possible }]) => (isOnly(possible, 'enabled') ? [id] : []))
  }

  /** Changes something and changes it back, again and again. */
  async run(random: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(random.int(500, 2_500))
      if (random.chance(0.25)) await this.#scale(random.pick(scales), random.chance(0.5))
      else if (random.chance(0.35)) await (this.#is(added.id, 'absent') ? this.#add() : this.#remove())
      else await this.#toggle(random.pick(switched), random.chance(0.5))
    }
  }

  /** Everything on again, the added module gone; a scale may stay. */
  async restore(): Promise<void> {
    for (const id of switched)
      for (let tries = 0; !this.#is(id, 'enabled') && tries < 20; tries += 1) await this.#call(id, 'enable', true)
    for (let tries = 0; !this.#is(added.id, 'absent') && tries < 20; tries += 1) await this.#remove()
  }

  /** Holds the API's view against what was acknowledged; what was not known is known from now on. */
  check(views: readonly ModuleView[]): void {
    for (const [id, { possible }] of this.#known) {
      const view = views.find((each) => `scale of ${each.id}` === id || each.id === id)
      const seen: Wish = id === scaleOf ? (String(view?.scale?.min) as Wish) : (view?.desired ?? 'absent')
      if (!possible.has(seen))
        this.#report.broken(
          'lost desired state',
          `${id} is ${seen}, and ${[...possible].join(' or ')} was acknowledged`,
        )
      this.#set(id, [seen])
    }
  }

  #toggle(id: string, wait: boolean): Promise<void> {
    return this.#call(id, this.#is(id, 'enabled') ? 'disable' : 'enable', wait)
  }

  #call(id: string, action: 'enable' | 'disable', wait: boolean): Promise<void> {
    const path = `/api/modules/${id}/${action}${wait ? '?wait=true' : ''}`
    return this.#change(id, action === 'enable' ? 'enabled' : 'disabled', 'POST', path)
  }

  #scale(to: Scaled, wait: boolean): Promise<void> {
    const path = `/api/modules/${scaled}/scale${wait ? '?wait=true' : ''}`
    return this.#change(scaleOf, to, 'PUT', path, { replicas: Number(to) })
  }

  #add(): Promise<void> {
    return this.#change(added.id, 'enabled', 'POST', '/api/modules?wait=true', { source: this.#world.addable })
  }

  #remove(): Promise<void> {
    return this.#change(added.id, 'absent', 'DELETE', `/api/modules/${added.id}?wait=true`)
  }

  async #change(id: string, to: Wish, method: string, path: string, body?: object): Promise<void> {
    const before = this.#known.get(id)?.possible ?? new Set<Wish>()
    this.#set(id, [...before, to])
    const signal = AbortSignal.timeout(callLimitMs)
    try {
      const answer = await this.#world.berth.request(method, path, body, { signal })
      await answer.text()
      if (answer.ok) this.#set(id, [to])
      // What a lost answer had removed already.
      else if (to === 'absent' && answer.status === 404) this.#set(id, ['absent'])
      // Refused: nothing was kept. After a 5xx it may have been.
      else if (answer.status < 500) this.#set(id, [...before])
    } catch {
      if (signal.aborted) this.#report.broken('stuck', `${method} ${path}: no answer within ${callLimitMs / 1000} s`)
    }
  }

  #is(id: string, wish: Wish): boolean {
    return isOnly(this.#known.get(id)?.possible ?? new Set(), wish)
  }

  #maybe(id: string, wish: Wish, sinceMs: number): boolean {
    const known = this.#known.get(id)
    return known === undefined || known.possible.has(wish) || (known.lastMs.get(wish) ?? 0) >= sinceMs
  }

  #set(id: string, wishes: readonly Wish[]): void {
    const before = this.#known.get(id)
    const nowMs = performance.now()
    const lastMs = before?.lastMs ?? new Map<Wish, number>()
    for (const wish of before?.possible ?? []) lastMs.set(wish, nowMs)
    this.#known.set(id, { possible: new Set(wishes), lastMs })
  }
}

function isOnly(possible: ReadonlySet<Wish>, wish: Wish): boolean {
  return possible.size === 1 && possible.has(wish)
}
