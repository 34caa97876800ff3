import { describe, expect, it } from 'vitest'
import { hostVariables, installerVariables } from '../../../../orchestrator/engines/process/host-environment.ts'

const env = {
  PATH: '/bin',
  LC_ALL: 'C.UTF-8',
  https_proxy: 'http://proxy',
  HTTPS_PROXY: 'http://proxy',
  SSL_CERT_FILE: '/ca.pem',
  HOME: '/home/me',
  PIP_INDEX_URL: 'https://me:secret@index.example',
  PIP_CACHE_DIR: '/pip',
  UV_CACHE_DIR: '/uv',
  UV_PUBLISH_TOKEN: 'secret',
  BERTH_ADMIN_KEY: 'secret',
  AWS_SECRET_ACCESS_KEY: 'secret',
  NODE_OPTIONS: '--inspect',
}
const forModules = ['HTTPS_PROXY', 'LC_ALL', 'PATH', 'SSL_CERT_FILE', 'https_proxy']

describe('variables of the machine', () => {
  it('reach modules by an allow-list', () => {
    expect(Object.keys(hostVariables(env)).sort()).toEqual(forModules)
  })

  it('reach installers with how packages are found, and without the caches of others', () => {
    expect(Object.keys(installerVariables(env)).sort()).toEqual([...forModules, 'HOME', 'PIP_INDEX_URL'].sort())
  })
})
