import { describe, expect, it } from 'vitest'
import { makeKey } from '../../../orchestrator/http/auth/keys.ts'
import { createLogger } from '../../../orchestrator/telemetry/logger.ts'
import { formatForPeople } from '../../../orchestrator/telemetry/pretty.ts'

function logger(isTTY = false, level: 'debug' | 'warn' = 'debug') {
  const lines: string[] = []
  return { lines, log: createLogger({ level, output: { isTTY, write: (line) => lines.push(line) } }) }
}

describe('the log', () => {
  it('is a JSON object a line', () => {
    const { log, lines } = logger()
    log.info({ module: 'ocr' }, 'started')
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      module: 'ocr',
      msg: 'started',
    })
  })

  it('keeps to its level', () => {
    const { log, lines } = logger(false, 'warn')
    log.info('no')
    log.warn('yes')
    expect(lines).toHaveLength(1)
  })

  it('shows no secrets, wherever they stand', () => {
    const { log, lines } = logger()
    const secret = 'hunter2hunter2'
    log.info(
      { token: secret, headers: { authorization: secret, 'x-api-key': secret }, a: { b: { password: secret } } },
      'x',
    )
    const key = makeKey()
    log.warn({ url: `/x?key=${key}` }, `refused ${key}`)
    expect(lines.join('')).not.toContain(secret)
    expect(lines.join('')).not.toContain(key)
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ msg: 'refused [secret]', url: '/x?key=[secret]' })
  })

  it('is a line for people on a terminal', () => {
    const { log, lines } = logger(true)
    log.warn({ module: 'two words', count: 3 }, 'slow')
    const escapes = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, 'g')
    expect((lines[0] ?? '').replace(escapes, '')).toMatch(/^\d\d:\d\d:\d\d warn {2}slow module="two words" count=3\n$/)
  })
})

describe('a line for people', () => {
  it('has the stack of an error below it', () => {
    const line = JSON.stringify({
      level: 'error',
      time: '2026-01-01T10:20:30.000Z',
      msg: 'broken',
      err: { stack: 'Error: x\n  at y' },
    })
    expect(formatForPeople(line, false)).toBe('10:20:30 error broken\n    Error: x\n      at y\n')
  })

  it('that is none stays as it is', () => {
    expect(formatForPeople('plain\n', false)).toBe('plain\n')
  })
})
