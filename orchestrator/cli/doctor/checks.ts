import type { Context } from '../context.ts'
import { checkAddress } from './address.ts'
import type { Check } from './check.ts'
import { checkData } from './data.ts'
import { checkDocker } from './docker.ts'
import { checkGpu } from './gpu.ts'
import { checkNode } from './node.ts'
import { checkIndex, checkPython } from './python.ts'

/** Every check, each bounded; with nothing but Node's own modules, because the orchestrator may not even start. */
export async function runChecks({ env, api, target, signal }: Context): Promise<readonly Check[]> {
  const wanted = env.BERTH_ENGINE || 'auto'
  const docker = await checkDocker(env, wanted, signal)
  const embedded = wanted === 'process' || !docker.answers
  const [gpu, python, index, address, data] = await Promise.all([
    checkGpu(docker, signal),
    checkPython(embedded, signal),
    checkIndex(env, signal),
    checkAddress(api, target, signal),
    checkData(target.data),
  ])
  return [checkNode(process.versions.node), docker.check, gpu, python, index, address, data]
}
