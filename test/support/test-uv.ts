import { homedir } from 'node:os'
import { join } from 'node:path'
import { installerVariables } from '../../orchestrator/engines/process/host-environment.ts'
import { findPython } from '../../orchestrator/engines/process/python.ts'
import { findUv } from '../../orchestrator/engines/process/uv.ts'

/**
 * Variables by which an embedded engine takes a uv that earlier tests have fetched, in place of fetching one for each
 * data folder. None where it can't be had: then pip installs.
 */
export async function uvVariables(): Promise<Readonly<Record<string, string>>> {
  const env = installerVariables(process.env)
  const tools = join(homedir(), '.cache/berth/test-tools')
  const python = await findPython(env, undefined)
  const options = { configured: process.env.BERTH_UV, tools, env, python }
  const found = await findUv(options, AbortSignal.timeout(240_000), () => {})
  return 'path' in found ? { BERTH_UV: found.path } : {}
}
