import { createServer, type Socket } from 'node:net'
import { Client, credentials } from '@grpc/grpc-js'
import protobuf from 'protobufjs'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type BuildAnswers, serveSession } from '../../../../orchestrator/engines/docker/buildkit/session.ts'

const { root } = protobuf.parse(`syntax = "proto3";
message CredentialsRequest { string Host = 1; }
message CredentialsResponse { string Username = 1; string Secret = 2; }
message GetSecretRequest { string ID = 1; map<string, string> annotations = 2; }
message GetSecretResponse { bytes data = 1; }
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { int32 status = 1; }`)

/** A session on a real connection, and the daemon's end of it. */
async function session(answers: Partial<BuildAnswers>) {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  const { port } = server.address() as { port: number }
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
  const asking = new Promise<void>((resolve, reject) =>
    client.waitForReady(Date.now() + 8_000, (error) => (error ? reject(error) : resolve())),
  )
  const end = serveSession(await accepted, { credentials: async () => undefined, secrets: {}, ...answers })
  onTestFinished(() => {
    end()
    client.close()
    server.close()
  })
  await asking
  return (path: string, request: string, response: string, value: object) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const [ask, told] = [root.lookupType(request), root.lookupType(response)]
      client.makeUnaryRequest(
        path,
        (each: object) => Buffer.from(ask.encode(ask.fromObject(each)).finish()),
        (bytes: Buffer) => told.toObject(told.decode(bytes), { defaults: true }),
        value,
        (error, result) => (error ? reject(error) : resolve(result as Record<string, unknown>)),
      )
    })
}

const secret = ['/moby.buildkit.secrets.v1.Secrets/GetSecret', 'GetSecretRequest', 'GetSecretResponse'] as const
const login = ['/moby.filesync.v1.Auth/Credentials', 'CredentialsRequest', 'CredentialsResponse'] as const

describe('what a build asks for', () => {
  it('a secret by its id, and no other', async () => {
    const ask = await session({ secrets: { ca_bundle: Buffer.from('certificates') } })
    const { data } = await ask(...secret, { ID: 'ca_bundle', annotations: { a: 'b' } })
    expect(Buffer.from(data as Uint8Array).toString()).toBe('certificates')
    for (const ID of ['other', 'toString']) {
      await expect(ask(...secret, { ID })).rejects.toMatchObject({ code: 5, details: expect.stringContaining(ID) })
    }
  })

  it("a registry's login, or that there is none", async () => {
    const ask = await session({
      credentials: async (host) =>
        host === 'a.example'
          ? { username: 'me', password: 'p' }
          : host === 'b.example'
            ? { identitytoken: 't' }
            : undefined,
    })
    expect(await ask(...login, { Host: 'a.example' })).toEqual({ Username: 'me', Secret: 'p' })
    expect(await ask(...login, { Host: 'b.example' })).toEqual({ Username: '', Secret: 't' })
    expect(await ask(...login, { Host: 'c.example' })).toEqual({ Username: '', Secret: '' })
  })

  it('whether the session lives: a daemon that is not told ends it', async () => {
    const ask = await session({})
    const health = ['/grpc.health.v1.Health/Check', 'HealthCheckRequest', 'HealthCheckResponse'] as const
    expect(await ask(...health, {})).toEqual({ status: 1 })
  })

  it('anything else is not answered', async () => {
    const ask = await session({})
    const other = ['/moby.filesync.v1.FileSync/DiffCopy', 'HealthCheckRequest', 'HealthCheckResponse'] as const
    await expect(ask(...other, {})).rejects.toMatchObject({ code: 12 })
  })
})
