import Type from 'typebox'
import { Duration } from './module-fields.ts'

/** Berth's own keys of a model's entry, in `berth.yaml` and in `module.yaml` alike; they are part of its configuration. */
export const modelFieldSchemas = {
  redirect_to: Type.Optional(Type.String({ minLength: 1, description: 'Another model that this name stands for.' })),
  max_simul_users: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      description: 'Inferences at once per replica; the rest wait.',
      'x-expects': 'a whole number, 1 or more',
    }),
  ),
  offload_seconds: Type.Optional(
    Type.Number({ description: 'Idle seconds until the model is offloaded; negative: never.' }),
  ),
  idle_ttl: Type.Optional(Duration({ description: 'The same as a duration; it wins over `offload_seconds`.' })),
}
