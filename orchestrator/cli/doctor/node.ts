import type { Check } from './check.ts'

export function checkNode(version: string): Check {
  const enough = Number(version.split('.')[0]) >= 24
  return {
    name: 'node',
    level: enough ? 'ok' : 'fail',
    message: enough ? `Node ${version}` : `Node ${version} can not run Berth: 24 or newer is needed`,
    ...(enough ? {} : { remedy: 'Start Berth with `npm run up`, which fetches one, or install Node 24.' }),
  }
}
