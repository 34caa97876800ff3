import { BerthError } from '../../domain/errors.ts'
import { labels } from '../labels.ts'
import type { Daemon, VolumeState } from './daemon.ts'
import { describeHolder, findOut, type Holder, isSame } from './holder.ts'
import { names } from './names.ts'
import { ignoreRefusal } from './volumes.ts'

/**
 * One orchestrator an instance and daemon. Who has it is written in the labels of an empty volume, because making a volume
 * is the daemon's one atomic step that needs no image: whoever makes one of that name first has made it, and a second one
 * gets to see the first's labels. Labels never change, so every holder makes a volume of the next number; the highest number
 * counts, and only its holder removes lower ones. Numbers never go down: a look that is out of date can then only lose.
 */
export interface Claim {
  /** Says that nobody has the instance any more. Idempotent; what a killed holder leaves is told by its being dead. */
  release(): Promise<void>
}

interface Entry {
  readonly number: number
  readonly name: string
  /** Undefined: it was given back. */
  readonly holder: Holder | undefined
}

const mostTries = 20

/** Takes the instance for `self`. Rejects with CONFIG_INVALID while another orchestrator has it, or may have it. */
export async function claimInstance(daemon: Daemon, instance: string, self: Holder): Promise<Claim> {
  for (let attempt = 1; attempt <= mostTries; attempt += 1) {
    const highest = await highestEntry(daemon, instance)
    if (highest?.holder !== undefined && isSame(highest.holder, self)) return claimed(daemon, instance, highest)
    if (highest?.holder !== undefined) await mayFollow(highest.holder, self, daemon, instance, highest.name)
    const made = await makeEntry(daemon, instance, (highest?.number ?? 0) + 1, self)
    if (made !== undefined) return claimed(daemon, instance, made)
  }
  throw new BerthError('ENGINE_UNAVAILABLE', `The instance ${instance} is being taken by many at once; try again`, {})
}

function claimed(daemon: Daemon, instance: string, entry: Entry): Claim {
  let released: Promise<void> | undefined
  return {
    release() {
      released ??= makeEntry(daemon, instance, entry.number + 1, undefined).then(() => {})
      return released
    },
  }
}

/** Undefined when another was quicker. */
async function makeEntry(
  daemon: Daemon,
  instance: string,
  number: number,
  holder: Holder | undefined,
): Promise<Entry | undefined> {
  const name = names.owner(instance, number)
  const owner = holder === undefined ? '' : JSON.stringify(holder)
  const marks = {
    [labels.instance]: instance,
    [labels.role]: 'owner',
    [labels.generation]: String(number),
    [labels.owner]: owner,
  }
  const made = await daemon.createVolume(name, marks)
  if (made.Labels?.[labels.owner] !== owner) return undefined
  const entries = await listEntries(daemon, instance)
  if (entries.some((entry) => entry.number > number)) return undefined
  const lower = entries.filter((entry) => entry.number < number)
  await Promise.all(lower.map((entry) => daemon.removeVolume(entry.name).catch(ignoreRefusal)))
  return { number, name, holder }
}

async function highestEntry(daemon: Daemon, instance: string): Promise<Entry | undefined> {
  return (await listEntries(daemon, instance)).toSorted((a, b) => b.number - a.number)[0]
}

async function listEntries(daemon: Daemon, instance: string): Promise<readonly Entry[]> {
  const label = [`${labels.instance}=${instance}`, `${labels.role}=owner`]
  return (await daemon.listVolumes({ label })).flatMap((volume) => toEntry(volume) ?? [])
}

function toEntry({ Name, Labels }: VolumeState): Entry | undefined {
  const number = Number(Labels?.[labels.generation])
  const owner = Labels?.[labels.owner] ?? ''
  if (Number.isNaN(number)) return undefined
  return { number, name: Name, holder: owner === '' ? undefined : (JSON.parse(owner) as Holder) }
}

/** The same data folder can only have been left: it has a lock of its own (store/lock.ts). */
async function mayFollow(other: Holder, self: Holder, daemon: Daemon, instance: string, volume: string): Promise<void> {
  const found = await findOut(other, self, daemon)
  if (found === 'dead' || (found === 'unknown' && other.folder === self.folder)) return
  const who = describeHolder(other)
  const remedy =
    found === 'alive'
      ? 'end that one first (`berth down`), or give this one another name (`instance` in berth.yaml, BERTH_INSTANCE)'
      : `give this one another name (\`instance\` in berth.yaml, BERTH_INSTANCE), or where it is sure that the other is gone: docker volume rm ${volume}`
  const has = found === 'alive' ? 'is' : 'may still be'
  throw new BerthError(
    'CONFIG_INVALID',
    `The instance ${instance} ${has} another Berth's on this Docker (${who}): with two, each would remove the other's modules. To do: ${remedy}`,
    { field: 'instance', instance, holder: who, remedy },
  )
}
