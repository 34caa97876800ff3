/**
 * Counters, gauges and histograms whose children are plain objects: a request adds to numbers and looks nothing up.
 * prom-client hashes the labels on every observation, which shows on the hot path; here it only prints.
 */
import type { Metric, Registry } from 'prom-client'

export interface Counter {
  value: number
}

export interface Histogram {
  observe(value: number): void
}

export interface Family<Child> {
  /** The child with these label values, in the order of the label names; the same object every time. */
  child(...values: readonly string[]): Child
  /** Drops every child whose first label has this value. */
  forget(first: string): void
}

interface FamilyOptions {
  readonly name: string
  readonly help: string
  readonly labels: readonly string[]
}

interface Sample {
  readonly metricName: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

/** Children of one family: beyond it, all further label values share the child `other`. */
const childLimit = 2_000

export function counterFamily(registry: Registry, options: FamilyOptions): Family<Counter> {
  return numberFamily(registry, 'counter', options)
}

export function gaugeFamily(registry: Registry, options: FamilyOptions): Family<Counter> {
  return numberFamily(registry, 'gauge', options)
}

export function histogramFamily(
  registry: Registry,
  options: FamilyOptions & { readonly buckets: readonly number[] },
): Family<Histogram> {
  const { name, buckets } = options
  return family(
    registry,
    'histogram',
    options,
    () => createHistogram(buckets),
    (labels, child) => {
      let below = 0
      const samples = buckets.map((le, index) => {
        below += child.counts[index] ?? 0
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below }
      })
      return [
        ...samples,
        { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: child.count },
        { metricName: `${name}_sum`, labels, value: child.sum },
        { metricName: `${name}_count`, labels, value: child.count },
      ]
    },
  )
}

/** A gauge whose values are asked for when somebody looks. */
export function observedGauge(
  registry: Registry,
  options: FamilyOptions,
  observe: () => Iterable<readonly [values: readonly string[], value: number]>,
): void {
  register(registry, 'gauge', options, () =>
    Array.from(observe(), ([values, value]) => ({
      metricName: options.name,
      labels: labelled(options.labels, values),
      value,
    })),
  )
}

function numberFamily(registry: Registry, type: 'counter' | 'gauge', options: FamilyOptions): Family<Counter> {
  return family(
    registry,
    type,
    options,
    () => ({ value: 0 }),
    (labels, child) => [{ metricName: options.name, labels, value: child.value }],
  )
}

function family<Child>(
  registry: Registry,
  type: string,
  options: FamilyOptions,
  create: () => Child,
  print: (labels: Readonly<Record<string, string>>, child: Child) => readonly Sample[],
): Family<Child> {
  const children = new Map<string, { readonly values: readonly string[]; readonly child: Child }>()
  register(registry, type, options, () =>
    [...children.values()].flatMap(({ values, child }) => print(labelled(options.labels, values), child)),
  )

  const childOf = (values: readonly string[]): Child => {
    const key = values.join('\u0000')
    const known = children.get(key)
    if (known !== undefined) return known.child
    const others = options.labels.map(() => 'other')
    if (children.size >= childLimit && key !== others.join('\u0000')) return childOf(others)
    const child = create()
    children.set(key, { values, child })
    return child
  }
  return {
    child: (...values) => childOf(values),
    forget(first) {
      for (const [key, { values }] of children) if (values[0] === first) children.delete(key)
    },
  }
}

function register(registry: Registry, type: string, options: FamilyOptions, samples: () => readonly Sample[]): void {
  const { name, help } = options
  const metric = {
    name,
    help,
    type,
    get: () => Promise.resolve({ name, help, type, values: samples(), aggregator: 'sum' }),
    reset: () => undefined,
  }
  // The registry prints whatever has a name and `get`; its type asks for prom-client's own classes.
  registry.registerMetric(metric as unknown as Metric)
}

function labelled(names: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']))
}

function createHistogram(buckets: readonly number[]): Histogram & { counts: number[]; sum: number; count: number } {
  return {
    counts: buckets.map(() => 0),
    sum: 0,
    count: 0,
    observe(value) {
      this.sum += value
      this.count += 1
      for (let index = 0; index < buckets.length; index += 1) {
        if (value <= (buckets[index] ?? 0)) {
          this.counts[index] = (this.counts[index] ?? 0) + 1
          return
        }
      }
    },
  }
}
