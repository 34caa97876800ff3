import type { Duplex } from 'node:stream'
import {
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { RegistryAuth } from '../registry-auth.ts'
import { codec } from './messages.ts'

/** What a build may ask of whoever ordered it. */
export interface BuildAnswers {
  /** The login of a registry (`ghcr.io`; Docker Hub is `registry-1.docker.io`). */
  credentials(host: string): Promise<RegistryAuth | undefined>
  /** By the `id` of `RUN --mount=type=secret`. */
  readonly secrets: Readonly<Record<string, Buffer>>
}

/** gRPC methods that the session answers; the daemon is told of them when the session begins. */
export const sessionMethods = [
  '/moby.filesync.v1.Auth/Credentials',
  '/moby.buildkit.secrets.v1.Secrets/GetSecret',
  // A session whose health can't be asked is given up by the daemon after half a minute, in the middle of a build.
  '/grpc.health.v1.Health/Check',
] as const

/** Serves a BuildKit session (moby/buildkit session/) on a connection to the daemon. The function that it answers ends it. */
export function serveSession(socket: Duplex, answers: BuildAnswers): () => void {
  const server = new Server()
  const [credentials, secret, health] = sessionMethods
  answer<{ Host: string }, { Username: string; Secret: string }>(
    server,
    credentials,
    ['CredentialsRequest', 'CredentialsResponse'],
    async ({ Host }) => {
      const auth = await answers.credentials(Host)
      return { Username: auth?.username ?? '', Secret: auth?.identitytoken ?? auth?.password ?? '' }
    },
  )
  answer<{ ID: string }, { data: Buffer }>(
    server,
    secret,
    ['GetSecretRequest', 'GetSecretResponse'],
    async ({ ID }) => {
      const data = Object.hasOwn(answers.secrets, ID) ? answers.secrets[ID] : undefined
      if (data === undefined) throw Object.assign(new Error(`there is no secret ${ID}`), { code: status.NOT_FOUND })
      return { data }
    },
  )
  answer<object, { status: number }>(server, health, ['HealthCheckRequest', 'HealthCheckResponse'], async () => ({
    status: serving,
  }))
  socket.on('error', () => {})
  server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(socket)
  return () => {
    server.forceShutdown()
    socket.destroy()
  }
}

/** `SERVING` of grpc.health.v1. */
const serving = 1

function answer<Request extends object, Response extends object>(
  server: Server,
  path: string,
  [request, response]: readonly [request: string, response: string],
  handle: (request: Request) => Promise<Response>,
): void {
  const read = codec<Request>(request)
  const write = codec<Response>(response)
  const definition: ServiceDefinition = {
    call: {
      path,
      requestStream: false,
      responseStream: false,
      requestSerialize: read.encode,
      requestDeserialize: read.decode,
      responseSerialize: write.encode,
      responseDeserialize: write.decode,
    },
  }
  const call: handleUnaryCall<Request, Response> = ({ request: asked }, callback) => {
    handle(asked).then(
      (value) => callback(null, value),
      (error: unknown) => callback(error as Error),
    )
  }
  server.addService(definition, { call } as UntypedServiceImplementation)
}
