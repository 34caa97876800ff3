import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { allRegistryAuths, registryAuth, registryOf } from '../../../../orchestrator/engines/docker/registry-auth.ts'

describe('the registry of a reference', () => {
  it.each([
    ['python:3.13', 'docker.io'],
    ['team/module', 'docker.io'],
    ['registry.example/team/module:1', 'registry.example'],
    ['localhost/module', 'localhost'],
    ['127.0.0.1:5000/module', '127.0.0.1:5000'],
  ])('%s: %s', (reference, registry) => expect(registryOf(reference)).toBe(registry))
})

describe('the login of a registry', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-login-'))
    const helper = `#!/bin/sh
read registry
case "$registry" in
  helped.example) echo '{"Username":"helped","Secret":"s3"}' ;;
  token.example) echo '{"Username":"<token>","Secret":"t0ken"}' ;;
  *) echo 'credentials not found' >&2; exit 1 ;;
esac
`
    await writeFile(join(folder, 'docker-credential-test'), helper, { mode: 0o755 })
  })
  afterEach(() => rm(folder, { recursive: true }))

  const env = async (config: object | string) => {
    await writeFile(join(folder, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config))
    return { DOCKER_CONFIG: folder, PATH: `${folder}:${process.env.PATH}` }
  }
  const auth = Buffer.from('me:a:b').toString('base64')

  it('is what `docker login` has written down', async () => {
    const variables = await env({
      auths: { 'registry.example': { auth }, 'https://index.docker.io/v1/': { identitytoken: 'id' } },
    })
    expect(await registryAuth('registry.example', variables)).toMatchObject({ username: 'me', password: 'a:b' })
    expect(await registryAuth('docker.io', variables)).toMatchObject({ identitytoken: 'id' })
    expect(await registryAuth('other.example', variables)).toBeUndefined()
    expect(Object.keys(await allRegistryAuths(variables))).toEqual(['registry.example', 'https://index.docker.io/v1/'])
  })

  it('is what a credential helper says', async () => {
    const variables = await env({ credHelpers: { 'helped.example': 'test' }, credsStore: 'test' })
    expect(await registryAuth('helped.example', variables)).toEqual({
      username: 'helped',
      password: 's3',
      serveraddress: 'helped.example',
    })
    expect(await registryAuth('token.example', variables)).toEqual({
      identitytoken: 't0ken',
      serveraddress: 'token.example',
    })
    expect(await registryAuth('other.example', variables)).toBeUndefined()
  })

  it('is none where there is no helper, no file, or a broken one', async () => {
    expect(await registryAuth('x.example', await env({ credsStore: 'absent' }))).toBeUndefined()
    expect(await registryAuth('x.example', await env('{'))).toBeUndefined()
    expect(await registryAuth('x.example', { DOCKER_CONFIG: '/nonexistent' })).toBeUndefined()
  })
})
