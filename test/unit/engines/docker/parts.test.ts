import { describe, expect, it } from 'vitest'
import { dockerCapabilities } from '../../../../orchestrator/engines/docker/capabilities.ts'
import { compareApi } from '../../../../orchestrator/engines/docker/daemon-version.ts'
import { parseIgnore } from '../../../../orchestrator/engines/docker/dockerignore.ts'
import { splitReference } from '../../../../orchestrator/engines/docker/images.ts'
import { names } from '../../../../orchestrator/engines/docker/names.ts'
import { containerIds } from '../../../../orchestrator/engines/docker/reach.ts'
import { freeSubnets, parseRange, parseRoutes } from '../../../../orchestrator/engines/docker/subnets.ts'

describe('subnets', () => {
  const range = (text: string) => parseRange(text) ?? { first: 0, last: 0 }

  it('are taken from the ranges, beginning where the seed says, each once', () => {
    const all = [...freeSubnets([range('10.0.0.0/26'), range('10.9.0.0/28')], 28, [], 3)]
    expect(all).toEqual(['10.0.0.48/28', '10.9.0.0/28', '10.0.0.0/28', '10.0.0.16/28', '10.0.0.32/28'])
  })

  it('avoid what overlaps one in use, larger or smaller', () => {
    const used = [range('10.0.0.4/30'), range('10.0.0.32/27')]
    expect([...freeSubnets([range('10.0.0.0/26')], 28, used, 0)]).toEqual(['10.0.0.16/28'])
    expect([...freeSubnets([range('10.0.0.0/26')], 28, [range('10.0.0.0/8')], 0)]).toEqual([])
  })

  it.each(['10.0.0.0', '10.0.0.0/33', '300.0.0.0/8', 'fd00::/8', ''])('are none of %j', (text) => {
    expect(parseRange(text)).toBeUndefined()
  })

  it('of this machine’s routes are read, the default route left out', () => {
    const table =
      'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n' +
      'eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n' +
      'eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n'
    expect(parseRoutes(table)).toEqual([range('192.168.1.0/24')])
    expect(parseRoutes('')).toEqual([])
  })
})

describe('.dockerignore', () => {
  const ignored = (patterns: string, path: string, isFolder = false): boolean => parseIgnore(patterns)(path, isFolder)

  it.each([
    ['*.log', 'a.log', true],
    ['*.log', 'folder/a.log', false],
    ['**/*.log', 'folder/deep/a.log', true],
    ['**/*.log', 'a.log', true],
    ['folder', 'folder/a', true],
    ['/folder/', 'folder/a', true],
    ['fold?r/**', 'folder/a/b', true],
    ['# comment\n\nfolder', 'other', false],
    ['*\n!kept', 'kept', false],
    ['*\n!kept', 'other', true],
    ['!kept\n*', 'kept', true],
    ['a+b', 'a+b', true],
    ['a+b', 'aab', false],
  ])('%j decides on %s: %s', (patterns, path, expected) => {
    expect(ignored(patterns, path)).toBe(expected)
  })

  it('looks into a folder where something may be brought back', () => {
    expect(ignored('folder', 'folder', true)).toBe(true)
    expect(ignored('folder\n!folder/kept', 'folder', true)).toBe(false)
    expect(ignored('folder\n!folder/kept', 'folder/kept')).toBe(false)
    expect(ignored('folder\n!folder/kept', 'folder/other')).toBe(true)
  })
})

describe('names', () => {
  it('say whose they are', () => {
    expect(names.container('i', 'probe-0')).toBe('berth-i-probe-0')
    expect(names.network('i', 'probe', 'none')).not.toBe(names.network('i', 'probe', 'egress'))
  })

  it('stay apart where characters had to be replaced or cut', () => {
    const odd = [
      names.container('i', 'a b'),
      names.container('i', 'a+b'),
      names.container('i', 'a_b'),
      names.container('i', 'x'.repeat(300)),
    ]
    expect(new Set(odd).size).toBe(4)
    for (const name of odd) expect(name).toMatch(/^[A-Za-z0-9][\w.-]{0,130}$/)
  })
})

describe('references of images', () => {
  it.each([
    ['python', 'python', 'latest'],
    ['python:3.13', 'python', '3.13'],
    ['127.0.0.1:5000/team/module', '127.0.0.1:5000/team/module', 'latest'],
    ['127.0.0.1:5000/team/module:2', '127.0.0.1:5000/team/module', '2'],
    ['python@sha256:0a', 'python', 'sha256:0a'],
  ])('%s names one tag', (reference, name, tag) => {
    expect(splitReference(reference)).toEqual({ name, tag })
  })
})

describe('this process’s own container', () => {
  const id = 'a'.repeat(64)
  it('is found in what Docker mounts, in the control group, or by its name', () => {
    expect(containerIds(`1 2 8:1 /var/lib/docker/containers/${id}/hostname /etc/hostname rw`, '', 'box')).toEqual([id])
    expect(containerIds('', `12:pids:/docker/${id}\n`, 'box')).toEqual([id])
    expect(containerIds('', '0::/', '0123456789ab')).toEqual(['0123456789ab'])
    expect(containerIds('', '0::/user.slice', 'my-laptop')).toEqual([])
  })
})

describe('capabilities', () => {
  const daemon = (engine: string, api: string) => ({
    address: 'unix:///x',
    version: { engine, api, architecture: 'amd64', init: true },
    speaks: (wanted: string) => compareApi(api, wanted) >= 0,
  })
  const seccomp = { SecurityOptions: ['name=seccomp,profile=builtin'] }

  it('share caches and have no other weakness where the daemon is new and the orchestrator beside the modules', () => {
    const join = { kind: 'join', container: 'c' } as const
    const { weaknesses } = dockerCapabilities(daemon('28.1.0', '1.49'), seccomp, join, [])
    expect(weaknesses.map(({ finding }) => finding)).toEqual([expect.stringContaining('share one cache')])
  })

  it('name what is weaker, with points', () => {
    const publish = { kind: 'publish', bind: '127.0.0.1', host: '127.0.0.1' } as const
    const found = dockerCapabilities(daemon('25.0.1', '1.44'), { SecurityOptions: [], PidsLimit: false }, publish, [])
    expect(found.networkPolicy).toBe(false)
    expect(found.weaknesses.map(({ finding }) => finding).join(' ')).toMatch(/loopback port.*seccomp.*processes.*DNS/)
    expect(found.weaknesses.every(({ points }) => points > 0)).toBe(true)
  })

  it('tell the memory of the machine that runs the modules', () => {
    const join = { kind: 'join', container: 'c' } as const
    expect(dockerCapabilities(daemon('28.1.0', '1.49'), { MemTotal: 8_000 }, join, []).memoryBytes).toBe(8_000)
    expect(dockerCapabilities(daemon('28.1.0', '1.49'), {}, join, []).memoryBytes).toBe(Number.POSITIVE_INFINITY)
  })

  it('compare API versions as numbers', () => {
    expect(compareApi('1.9', '1.41')).toBeLessThan(0)
    expect(compareApi('2.0', '1.41')).toBeGreaterThan(0)
    expect(compareApi('1.41', '1.41')).toBe(0)
  })
})
