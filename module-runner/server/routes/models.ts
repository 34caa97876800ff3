import type { IncomingMessage } from 'node:http'
import type { LoadAnswer, OffloadAnswer } from '../../protocol.ts'
import { bodyText, readBody } from '../body.ts'
import type { RunnerContext } from '../context.ts'
import { isRecord, messageOf, RunnerError } from '../errors.ts'
import { parseExact, writeExact } from '../exact-json.ts'
import { callerLeft } from '../replies.ts'
import type { Exchange, Routes } from '../router.ts'

/**
 * POST /load and /offload. Both wait for the worker; a caller that leaves meanwhile has given it up, and a worker that is
 * stuck in it is replaced.
 */
export function modelRoutes({ supervisor, gate, gpuMemory, bodyLimit }: RunnerContext): Routes {
  async function load({ request, response }: Exchange): Promise<LoadAnswer> {
    const { models } = await readObject(request, bodyLimit)
    if (!isRecord(models) || !Object.values(models).every(isRecord)) {
      const message = '`models` has to be an object with one configuration for each model.'
      throw new RunnerError('REQUEST_INVALID', message, { field: 'models' })
    }
    const names = Object.keys(models)
    if (names.length > 0) await supervisor.load(names, writeExact(models), callerLeft(response))
    gpuMemory.changed()
    return { loaded: names }
  }

  async function offload({ request, response }: Exchange): Promise<OffloadAnswer> {
    const { models } = await readObject(request, bodyLimit)
    if (!Array.isArray(models) || !models.every((name) => typeof name === 'string')) {
      throw new RunnerError('REQUEST_INVALID', '`models` has to be a list of names.', { field: 'models' })
    }
    const signal = callerLeft(response)
    await gate.settled(models, signal).catch((error: unknown) => {
      supervisor.replace('a cancelled inference did not end while its model was to be offloaded')
      throw error
    })
    const offloaded = await supervisor.offload(models, signal)
    gpuMemory.changed()
    return { offloaded: [...offloaded] }
  }

  return { 'POST /load': load, 'POST /offload': offload }
}

async function readObject(request: IncomingMessage, limit: number): Promise<Record<string, unknown>> {
  let value: unknown
  const text = bodyText(await readBody(request, limit))
  try {
    value = parseExact(text)
  } catch (error) {
    throw new RunnerError('REQUEST_INVALID', `The request is not JSON: ${messageOf(error)}`)
  }
  if (!isRecord(value)) throw new RunnerError('REQUEST_INVALID', 'The request has to be a JSON object.')
  return value
}
