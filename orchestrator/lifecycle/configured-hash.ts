import { createHash } from 'node:crypto'
import type { JsonObject } from '../domain/json.ts'

/**
 * Stands for what a model's definition says, to be compared after a restart; undefined: nobody has configured it. What
 * an explicit load named stays until the definition changes, so it is the definition that counts, not what was loaded.
 */
export function configuredHash(configuration: JsonObject | undefined): string {
  return createHash('sha256')
    .update(JSON.stringify(configuration) ?? '')
    .digest('hex')
}
