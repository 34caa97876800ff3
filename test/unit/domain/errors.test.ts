import { describe, expect, it } from 'vitest'
import { errorFor } from '../../../orchestrator/domain/error-visibility.ts'
import { BerthError, type ErrorCode, errorTable, fromModuleError } from '../../../orchestrator/domain/errors.ts'

describe("the code of a module's own error", () => {
  const claimed = (code: string) => fromModuleError({ error: { code, message: 'no' } }, 'INFERENCE_FAILED').code

  it.each(['OUT_OF_MEMORY', 'MODULE_BUSY', 'REQUEST_INVALID', 'MODEL_NOT_FOUND', 'LOAD_TIMEOUT', 'SHUTTING_DOWN'])(
    '%s is kept',
    (code) => expect(claimed(code)).toBe(code),
  )

  it.each(['UNAUTHORIZED', 'CLIENT_CLOSED', 'CONFIG_INVALID', 'ENGINE_UNAVAILABLE', 'NOT_FOUND'])(
    "%s is Berth's to say and is not",
    (code) => expect(claimed(code)).toBe('INFERENCE_FAILED'),
  )

  it('that the table does not have is not kept', () => {
    expect(claimed('SOMETHING')).toBe('INFERENCE_FAILED')
    expect(claimed('toString')).toBe('INFERENCE_FAILED')
    expect(fromModuleError({ error: {} }, 'LOAD_FAILED')).toMatchObject({ code: 'LOAD_FAILED', origin: 'module' })
  })

  it('that is kept has a status of the table', () => {
    for (const code of Object.keys(errorTable) as ErrorCode[])
      expect(errorTable[claimed(code)].status).toBeGreaterThan(399)
  })
})

describe('an error', () => {
  const body = new BerthError('LOAD_FAILED', 'no', { module: 'm', traceback: 't', lines: ['l'] }).toBody('r')

  it('is whole for an admin', () => {
    expect(errorFor({ admin: true }, body)).toEqual(body)
  })

  it.each([{ admin: false }, undefined])('has no traceback and no output of a module for others (%j)', (viewer) => {
    expect(errorFor(viewer, body)).toEqual({ ...body, details: { module: 'm' } })
    expect(errorFor(viewer, new BerthError('LOAD_FAILED', 'no', { traceback: 't' }).toBody())).not.toHaveProperty(
      'details',
    )
  })
})
