import type { EnvironmentMarker } from '../../module-runner/protocol.ts'
import { isJsonObject } from '../domain/json.ts'
import type { EnvironmentInfo } from './engine.ts'

/** The marker's text; undefined when it is not that of a complete environment of this key. */
export function parseMarker(text: string, key: string): EnvironmentMarker | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (!isJsonObject(value) || value.key !== key || typeof value.python !== 'string') return undefined
    return value as unknown as EnvironmentMarker
  } catch {
    return undefined
  }
}

export function environmentInfo({ key, bytes, createdAt }: EnvironmentMarker): EnvironmentInfo {
  return { key, bytes, createdAt }
}
