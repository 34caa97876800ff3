import { describe, expect, it } from 'vitest'
import { type EngineChoice, selectEngine } from '../../../orchestrator/engines/select.ts'

const answers = { kind: 'answers', description: 'Docker 29.0.1' } as const
const absent = { kind: 'absent', reason: 'no Docker socket was found' } as const

describe('engine: auto', () => {
  it('takes Docker when its daemon answers', () => {
    expect(selectEngine('auto', answers)).toEqual({
      engine: 'docker',
      why: 'Docker runs the modules, because its daemon answers (Docker 29.0.1).',
    })
  })

  it('takes the embedded engine where there is no Docker, without a warning', () => {
    expect(selectEngine('auto', absent)).toEqual({
      engine: 'process',
      why: 'The embedded engine runs the modules, because no Docker socket was found.',
    })
  })

  it('warns when Docker is there and may not be used, with what to do', () => {
    const reason = 'this user may not use the Docker socket'
    const decision = selectEngine('auto', { kind: 'denied', reason, remedy: 'join the group docker' })
    expect(decision).toMatchObject({ engine: 'process', warning: expect.stringContaining('join the group docker') })
    expect(decision.why).toContain(reason)
  })

  it('warns when Docker is there and does not work', () => {
    const decision = selectEngine('auto', { kind: 'broken', reason: 'the daemon answers 500' })
    expect(decision).toMatchObject({ engine: 'process', warning: expect.stringContaining('the daemon answers 500') })
  })
})

describe('an engine by name', () => {
  it('is taken whatever was found', () => {
    expect(selectEngine('docker', absent).engine).toBe('docker')
    expect(selectEngine('process', answers).engine).toBe('process')
  })

  it.each(['swarm', 'kubernetes'] satisfies EngineChoice[])('%s is a clear error', (choice) => {
    expect(() => selectEngine(choice, answers)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })
})
