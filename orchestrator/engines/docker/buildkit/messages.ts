import protobuf from 'protobufjs'

/**
 * The few protobuf messages that a build exchanges, as in moby/buildkit: api/services/control/control.proto (StatusResponse),
 * session/auth/auth.proto, session/secrets/secrets.proto. Only the fields that are read or written here.
 */
const field = (type: string, id: number, rule?: 'repeated') => ({ type, id, ...(rule === undefined ? {} : { rule }) })

const root = protobuf.Root.fromJSON({
  nested: {
    StatusResponse: {
      fields: {
        vertexes: field('Vertex', 1, 'repeated'),
        logs: field('VertexLog', 3, 'repeated'),
        warnings: field('VertexWarning', 4, 'repeated'),
      },
    },
    Vertex: {
      fields: {
        digest: field('string', 1),
        name: field('string', 3),
        cached: field('bool', 4),
        started: field('Timestamp', 5),
        completed: field('Timestamp', 6),
        error: field('string', 7),
      },
    },
    VertexLog: { fields: { vertex: field('string', 1), msg: field('bytes', 4) } },
    VertexWarning: { fields: { short: field('bytes', 3) } },
    Timestamp: { fields: { seconds: field('int64', 1) } },
    CredentialsRequest: { fields: { Host: field('string', 1) } },
    CredentialsResponse: { fields: { Username: field('string', 1), Secret: field('string', 2) } },
    GetSecretRequest: { fields: { ID: field('string', 1) } },
    GetSecretResponse: { fields: { data: field('bytes', 1) } },
    HealthCheckRequest: { fields: {} },
    HealthCheckResponse: { fields: { status: field('int32', 1) } },
  },
})

/** What a build tells of itself, a piece at a time. */
export interface BuildStatus {
  readonly vertexes: readonly {
    readonly digest: string
    readonly name: string
    readonly cached: boolean
    readonly started?: object
    readonly completed?: object
    readonly error: string
  }[]
  readonly logs: readonly { readonly vertex: string; readonly msg: Uint8Array }[]
  readonly warnings: readonly { readonly short: Uint8Array }[]
}

/** Throws on what is no StatusResponse. */
export function decodeStatus(bytes: Uint8Array): BuildStatus {
  const type = root.lookupType('StatusResponse')
  return type.toObject(type.decode(bytes), { arrays: true, defaults: false }) as BuildStatus
}

/** Reader and writer of one message, as gRPC wants them. */
export function codec<T extends object>(name: string) {
  const type = root.lookupType(name)
  return {
    encode: (value: T): Buffer => Buffer.from(type.encode(type.fromObject(value)).finish()),
    decode: (bytes: Buffer): T => type.toObject(type.decode(bytes), { defaults: true }) as T,
  }
}
