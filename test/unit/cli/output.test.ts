import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { detectMedia } from '../../../orchestrator/cli/media.ts'
import { ago, createOutput, megabytes, type OutputStream, shorten, table } from '../../../orchestrator/cli/output.ts'
import { describeProgress } from '../../../orchestrator/cli/waiting.ts'
import type { ModuleView } from '../../../orchestrator/domain/views.ts'
import { minilm } from './fake-api.ts'

const view: ModuleView = minilm

describe('a status', () => {
  const streamed = (terminal: boolean) => {
    const stream: PassThrough & OutputStream = Object.assign(new PassThrough({ encoding: 'utf8' }), {
      isTTY: terminal,
      columns: 20,
    })
    return stream
  }

  it('replaces the one before on a terminal and makes way for other output', async () => {
    const stderr = streamed(true)
    const stdout = streamed(true)
    const out = createOutput(stdout, stderr)
    out.status('loading a long model name')
    out.status('ready')
    await out.print('text')
    out.clearStatus()
    expect(stderr.read()).toBe('\r\u001b[2Kloading a long mod…\r\u001b[2Kready\r\u001b[2K')
    expect(stdout.read()).toBe('text')
  })

  it('is a line for each phase, and now and then within one, where there is no terminal', () => {
    let now = 0
    const stderr = streamed(false)
    const out = createOutput(streamed(false), stderr, () => now)
    out.status('m: installing: numpy')
    out.status('m: installing [##--] 1 of 2: scipy')
    now = 6_000
    out.status('m: installing: torch')
    out.status('m: starting')
    expect(stderr.read()).toBe('m: installing: numpy\nm: installing: torch\nm: starting\n')
  })
})

describe('progress', () => {
  it('names the phase, its message and how far it is', () => {
    const progress = { phase: 'image', message: 'pulling', current: 3, total: 4 } as const
    expect(describeProgress({ ...view, progress })).toBe(
      'embeddings: getting the image [###############-----] 3 of 4: pulling',
    )
    expect(describeProgress({ ...view, progress: { phase: 'load', message: '' } })).toBe('embeddings: loading')
    expect(describeProgress({ ...view, state: 'starting' })).toBe('embeddings: starting')
    expect(describeProgress(view)).toBeUndefined()
  })
})

describe('figures and tables', () => {
  it('are short', () => {
    expect([12, 1_500, 6_500_000, 152_000_000, 5_600_000_000].map(megabytes)).toEqual([
      '12 B',
      '2 kB',
      '6.5 MB',
      '152 MB',
      '5.6 GB',
    ])
    const now = Date.parse('2026-01-31T12:00:00Z')
    expect(ago('2026-01-31T11:58:30Z', now)).toBe('1m ago')
    expect(ago(undefined, now)).toBe('-')
    expect(shorten('a\n  long text', 7)).toBe('a long…')
    expect(
      table(
        ['A', 'B'],
        [
          ['one', 'a\nb'],
          ['x', 'a longer cell'],
        ],
        12,
      ),
    ).toBe('A    B\none  a b\nx    a long…\n')
  })
})

describe('the kind of a file', () => {
  it('is told by its first bytes', () => {
    const kinds = [
      '\x89PNG\r\n\x1a\n',
      '\xff\xd8\xff\xe0',
      'RIFF0000WEBP',
      'RIFF0000WAVE',
      'OggS',
      '%PDF-1.7',
      'hello',
      '',
    ].map((head) => {
      const { kind, extension } = detectMedia(Buffer.from(head, 'latin1'))
      return `${kind}${extension}`
    })
    expect(kinds).toEqual([
      'image.png',
      'image.jpg',
      'image.webp',
      'audio.wav',
      'audio.ogg',
      'file.pdf',
      'file.bin',
      'file.bin',
    ])
  })
})
