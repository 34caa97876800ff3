import protobuf from 'protobufjs'
import { describe, expect, it } from 'vitest'
import { BuildProgress } from '../../../../orchestrator/engines/docker/buildkit/progress.ts'

/** BuildKit's StatusResponse as moby/buildkit's control.proto has it, also with the fields that nobody here reads. */
const proto = protobuf
  .parse(`syntax = "proto3";
message StatusResponse { repeated Vertex vertexes = 1; repeated VertexStatus statuses = 2; repeated VertexLog logs = 3; repeated VertexWarning warnings = 4; }
message Vertex { string digest = 1; repeated string inputs = 2; string name = 3; bool cached = 4; Timestamp started = 5; Timestamp completed = 6; string error = 7; }
message VertexStatus { string ID = 1; string vertex = 2; string name = 3; int64 current = 4; int64 total = 5; }
message VertexLog { string vertex = 1; Timestamp timestamp = 2; int64 stream = 3; bytes msg = 4; }
message VertexWarning { string vertex = 1; int64 level = 2; bytes short = 3; }
message Timestamp { int64 seconds = 1; int32 nanos = 2; }`)
  .root.lookupType('StatusResponse')

const trace = (status: object) => ({
  id: 'moby.buildkit.trace',
  aux: Buffer.from(proto.encode(proto.fromObject(status)).finish()).toString('base64'),
})
const now = { seconds: 1, nanos: 2 }

function linesOf(...records: readonly object[]): string[] {
  const lines: string[] = []
  const progress = new BuildProgress((line) => lines.push(line))
  for (const record of records) progress.note(record as Record<string, unknown>)
  progress.end()
  return lines
}

describe('the progress of a build', () => {
  it('is its steps, once each, and what they print', () => {
    const step = { digest: 'sha256:a', name: '[2/2] RUN make', inputs: ['x'] }
    const lines = linesOf(
      trace({ vertexes: [step] }),
      trace({
        vertexes: [{ ...step, started: now }],
        statuses: [{ ID: 'x', vertex: 'sha256:a', current: 1, total: 9 }],
      }),
      trace({ logs: [{ vertex: 'sha256:a', timestamp: now, stream: 1, msg: Buffer.from('one\ntwo\n') }] }),
      trace({ vertexes: [{ ...step, started: now, completed: now }] }),
      trace({
        vertexes: [{ digest: 'sha256:b', name: '[1/2] FROM base', cached: true, started: now, completed: now }],
      }),
    )
    expect(lines).toEqual(['[2/2] RUN make', 'one', 'two', '[1/2] FROM base (cached)'])
  })

  it('has whole lines and characters, wherever their pieces are cut', () => {
    const bytes = Buffer.from('größer als 三\nund mehr')
    const pieces = Array.from(bytes, (byte) => trace({ logs: [{ vertex: 'a', msg: Buffer.from([byte]) }] }))
    expect(linesOf(...pieces)).toEqual(['größer als 三', 'und mehr'])
  })

  it('keeps the output of steps that run side by side apart', () => {
    const said = (vertex: string, text: string) => trace({ logs: [{ vertex, msg: Buffer.from(text) }] })
    const done = trace({ vertexes: [{ digest: 'a', name: 'A', started: now, completed: now }] })
    expect(linesOf(said('a', 'first '), said('b', 'second '), said('a', 'step'), done, said('b', 'step\n'))).toEqual([
      'A',
      'first step',
      'second step',
    ])
  })

  it('shows of a line that was written over its last state, and no empty ones', () => {
    expect(linesOf(trace({ logs: [{ vertex: 'a', msg: Buffer.from(' 10%\r 50%\r100%\n\n  \n') }] }))).toEqual(['100%'])
  })

  it('is never what can not be read', () => {
    expect(
      linesOf({ id: 'moby.buildkit.trace', aux: 'AAAA' }, { id: 'moby.image.id', aux: { ID: 'sha256:1' } }),
    ).toEqual([])
  })

  it('has warnings, the errors of steps, and the text of daemons without BuildKit', () => {
    const lines = linesOf(
      trace({ warnings: [{ vertex: 'a', level: 1, short: Buffer.from('JSONArgsRecommended') }] }),
      trace({ vertexes: [{ digest: 'a', name: 'A', started: now, completed: now, error: 'exit code: 7' }] }),
      { stream: 'Step 1/2 : FROM base\n' },
      { stream: '\n' },
      { status: 'Pulling' },
    )
    expect(lines).toEqual(['warning: JSONArgsRecommended', 'A', 'exit code: 7', 'Step 1/2 : FROM base', 'Pulling'])
  })

  it('knows why it failed', () => {
    const progress = new BuildProgress(() => {})
    progress.note({ error: 'failed to solve: exit code: 7\n', errorDetail: { message: 'x' } })
    expect(progress.failure).toBe('failed to solve: exit code: 7')
  })
})
