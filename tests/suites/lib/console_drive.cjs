// Drives a headless browser through the console and says in JSON what held.
// Usage: NODE_PATH=… node console_drive.cjs URL TOKEN PICTURES
const fs = require('fs')
const path = require('path')
const { chromium } = require('playwright-core')

const [url, token, pictures] = process.argv.slice(2)
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const checks = []
const check = (what, holds, detail) => checks.push({ what, holds: Boolean(holds), detail: holds ? '' : detail })

const api = (target, options = {}) => fetch(new URL(target, url), {
  ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers }
})
const status = async () => (await api('/v1/status')).json()

async function until (what, holds, milliseconds = 15000) {
  const end = Date.now() + milliseconds
  let last
  do {
    last = await holds()
    if (last === true) return true
    await new Promise(resolve => setTimeout(resolve, 100))
  } while (Date.now() < end)
  return last
}

const shown = share => { const t = Math.round(share * 1000); return (t % 10 ? (t / 10).toFixed(1) : (t / 10).toFixed(0)) + '%' }

// What the page shows of each upstream and service, as its text has it.
const seen = page => page.evaluate(() => ({
  upstreams: Object.fromEntries([...document.querySelectorAll('#grid .cell')].map(cell => [
    cell.dataset.upstream,
    [cell.querySelector('.health').textContent.split(' ')[1], cell.querySelector('.share').textContent, cell.querySelector('small').textContent]
  ])),
  services: Object.fromEntries([...document.querySelectorAll('#grid tbody tr')].map(row => [
    row.dataset.service, [row.querySelector('th b').textContent, row.querySelector('[data-blame]')?.dataset.blame || null]
  ])),
  laws: Object.fromEntries([...document.querySelectorAll('#grid thead th .tag')].map(tag => [
    tag.parentElement.firstChild.textContent, tag.textContent
  ])),
  generation: document.getElementById('about').dataset.generation
}))

const expected = status => ({
  upstreams: Object.fromEntries(status.services.flatMap(s => s.upstreams.map(up => [
    `${s.name}/${up.provider}`, [up.health.replace('_', '-'), shown(up.share), `${up.rate.toFixed(1)}/s, ${shown(up.failing)} fail`]
  ]))),
  services: Object.fromEntries(status.services.map(s => [
    s.name, [s.first || 'nobody', s.origin_incident ? 'origin' : s.incident ? s.incident.blame || 'unknown' : null]
  ])),
  laws: Object.fromEntries(status.providers.map(p => [p.name, p.jurisdiction === 'eu' ? 'EU' : 'non-EU'])),
  generation: String(status.generation)
})

async function open (browser, options) {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  page.complaints = []
  page.on('console', said => { if (said.type() === 'error' || /policy/i.test(said.text())) page.complaints.push(said.text()) })
  page.on('pageerror', error => page.complaints.push(String(error)))
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', event => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`))
  })
  return page
}

async function login (page) {
  await page.goto(url, { timeout: 20000 })
  await page.waitForSelector('#login:not([hidden])')
  await page.fill('#token', token)
  await page.press('#token', 'Enter')
  await page.waitForSelector('#grid .cell')
  await page.waitForSelector('#timeline details')
}

// The figures move all the time: the page and the API are asked until they say the same at once.
async function numbers (page) {
  let differs
  const same = await until('the same numbers', async () => {
    const before = expected(await status())
    const [has, after] = [await seen(page), expected(await status())]
    const strip = ({ upstreams, ...rest }) => JSON.stringify({ ...rest, u: Object.entries(upstreams).map(([k, v]) => [k, v[0], v[1]]).sort() })
    const rates = Object.entries(has.upstreams).every(([name, [, , figures]]) => {
      const [rate, failing] = figures.match(/[\d.]+/g).map(Number)
      return [before, after].some(side => {
        const [r, f] = (side.upstreams[name]?.[2].match(/[\d.]+/g) || []).map(Number)
        return Math.abs(r - rate) <= 0.1 * r + 1 && Math.abs(f - failing) <= 5
      })
    })
    differs = [strip(has), strip(after), rates]
    return rates && (strip(has) === strip(before) || strip(has) === strip(after))
  })
  check('the numbers on the page are those of /v1/status', same === true, JSON.stringify(differs))
}

async function banners (page) {
  const raised = await page.$$eval('[data-alarm]', alarms => alarms.map(alarm => [alarm.dataset.alarm, alarm.textContent]))
  for (const [title, name] of [['Failover', 'portal'], ['Outside the EU', 'forms'], ['Fail-open', 'archive'], ['Origin incident', 'payments'], ['Fail-closed', 'health']]) {
    check(`a banner for ${title.toLowerCase()}`, raised.some(([which, text]) => which === title && text.includes(name)), JSON.stringify(raised))
  }
}

// Presses Tab until what has the focus matches.
async function tabTo (page, selector) {
  for (let presses = 0; presses < 120; presses++) {
    if (await page.evaluate(selector => document.activeElement.matches(selector), selector)) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`Tab does not lead to ${selector}`)
}

async function orderByKeyboard (page) {
  const standing = async () => (await (await api('/v1/overrides')).json()).find(order => order.target === 'portal/bunny')
  await tabTo(page, '#give')
  await page.keyboard.press('Enter')
  await page.waitForSelector('#order[open]')
  await tabTo(page, '#target')
  await page.keyboard.type('portal through bunny')
  await tabTo(page, 'input[name=what]')
  await page.keyboard.press('ArrowDown')
  await tabTo(page, '#lasts')
  await page.keyboard.type('2 hours')
  await tabTo(page, '#reason')
  await page.keyboard.type('a drill <b>by hand</b>')
  await page.keyboard.press('Enter')
  const review = await page.textContent('#order-review')
  check('an order is reviewed before it is given', /force-out portal\/bunny .*for 2 hours: a drill <b>by hand<\/b>\. portal will be served by somebody else/.test(review) && !await standing(), review)
  await page.screenshot({ path: path.join(pictures, 'order.png') })
  await tabTo(page, '#order-next')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[data-target="portal/bunny"]')
  const given = await standing()
  check('an order is given by keyboard alone, with its end and reason', given?.order === 'force_out' && given.until && given.reason === 'a drill <b>by hand</b>', JSON.stringify(given))
  check('who is first follows the order', await until('gcore', async () => (await status()).services[0].first === 'gcore') === true)
  await tabTo(page, '[data-target="portal/bunny"] button')
  await page.keyboard.press('Enter')
  await page.waitForSelector('#confirm[open]')
  await tabTo(page, '#confirm-yes')
  await page.keyboard.press('Enter')
  await page.waitForSelector('[data-target="portal/bunny"]', { state: 'detached' })
  check('an order is taken back by keyboard alone', !await standing())
}

async function detail (page) {
  await tabTo(page, '[data-upstream="portal/cloudflare"]')
  await page.keyboard.press('Enter')
  await page.waitForSelector('#upstream[open]')
  const text = await page.textContent('#upstream')
  check('one upstream shows its scores and why it stands there', /cascade/.test(text) && /attempts failed|probes failed|demoted/.test(text) && /hold left/.test(text), text)
  await page.screenshot({ path: path.join(pictures, 'upstream.png') })
  await page.keyboard.press('Escape')
  check('the focus returns to where it was', await page.evaluate(() => document.activeElement.dataset.upstream) === 'portal/cloudflare')
}

async function timeline (page) {
  const failover = page.locator('#timeline [data-event=failover]', { hasText: 'portal' }).last()
  await failover.locator('summary').focus()
  await page.keyboard.press('Enter')
  const facts = await failover.textContent()
  check('a transition shows its evidence', /cloudflare → bunny/.test(facts) && /detection seconds/.test(facts), facts)
  const before = await page.locator('#timeline li').count()
  check('the timeline has what happened', before > 5, String(before))
}

async function accessible (page, name) {
  const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`)
  const serious = result.violations.filter(found => ['serious', 'critical'].includes(found.impact))
  check(`axe finds nothing serious: ${name} (lesser: ${result.violations.map(found => found.id).join(', ') || 'none'})`, !serious.length,
    JSON.stringify(serious.map(found => [found.id, found.nodes.slice(0, 4).map(node => [node.html.slice(0, 160), node.failureSummary])]), null, 1))
}

const clean = async (page, name) => {
  const violations = await page.evaluate(() => window.violations)
  check(`no violation of the policy, nothing to complain of: ${name}`, !violations.length && !page.complaints.length, JSON.stringify([violations, page.complaints]))
}

// Without the token nothing about the system is told, and a wrong one is refused.
async function locked (browser) {
  const page = await open(browser, {})
  await page.goto(url)
  await page.waitForSelector('#login:not([hidden])')
  const text = await page.evaluate(() => document.body.innerText)
  check('without the token nothing shows', !/portal|cloudflare|bunny|snapshot/.test(text), text)
  await page.fill('#token', 'wrong')
  await page.press('#token', 'Enter')
  await page.waitForFunction(() => document.getElementById('login-error').textContent)
  check('a wrong token is refused and forgotten', await page.evaluate(() => sessionStorage.length) === 0)
  await accessible(page, 'the form for the token')
  await page.context().close()
}

// A page of another origin in the same browser gets nothing, with or without the token.
async function foreign (browser) {
  const page = await open(browser, {})
  await page.route('http://evil.example/', route => route.fulfill({ contentType: 'text/html', body: '<title>evil</title>' }))
  await page.goto('http://evil.example/')
  const told = await page.evaluate(async ([url, token]) => {
    const tries = [
      ['/v1/status', {}], ['/v1/status', { headers: { Authorization: `Bearer ${token}` } }],
      ['/v1/reload', { method: 'POST', mode: 'no-cors' }], ['/v1/overrides', { method: 'POST', mode: 'no-cors', body: '{"target":"gcore","order":"drain"}' }]
    ]
    const seen = []
    for (const [target, options] of tries) {
      seen.push(await fetch(new URL(target, url), options).then(answer => answer.type === 'opaque' ? 'opaque' : answer.text(), () => 'failed'))
    }
    return seen
  }, [url, token])
  const orders = await (await api('/v1/overrides')).json()
  check('a page of another origin reads nothing and orders nothing', told.every(one => ['opaque', 'failed'].includes(one)) && !orders.some(order => order.target === 'gcore'), JSON.stringify([told, orders]))
  await page.context().close()
}

// What the stand-ins cannot play: our own network at fault, an older proxy that goes away.
async function ourselves (browser) {
  const page = await open(browser, {})
  const now = await status()
  now.services[0].common_cause = true
  now.services[0].name = '<img src=x onerror=alert(1)>'
  let heard = 0
  await page.route('**/v1/events', route => !route.request().headers().authorization
    ? route.continue()
    : ++heard > 1 ? route.abort() : route.fulfill({ contentType: 'text/event-stream', body: `event: status\ndata: ${JSON.stringify(now)}\n\n` }))
  await page.route('**/v1/status', route => route.abort())
  await login(page)
  const text = await page.textContent('#alarms')
  check('a banner for a common cause', /Common cause.*our own network/.test(text), text)
  check('a name is text, whatever it holds', (await page.textContent('#grid')).includes('<img src=x') && !await page.$('#grid img'))
  const stale = await until('stale', async () => /nothing heard for/.test(await page.textContent('#link')))
  check('a page that hears nothing says so', stale === true)
  await page.screenshot({ path: path.join(pictures, 'stale.png') })
  await page.context().close()
}

async function main () {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync', '--disable-background-networking', '--disable-component-update']
  })
  try {
    await locked(browser)
    await foreign(browser)
    for (const colorScheme of ['light', 'dark']) {
      for (const [device, size] of [['desktop', { viewport: { width: 1360, height: 850 } }], ['phone', { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }]]) {
        const name = `${colorScheme}, ${device}`
        const page = await open(browser, { ...size, colorScheme })
        await login(page)
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
        check(`nothing runs over the edge: ${name}`, overflow <= 0, String(overflow))
        await page.screenshot({ path: path.join(pictures, `${colorScheme}-${device}.png`) })
        await page.screenshot({ path: path.join(pictures, `${colorScheme}-${device}-whole.png`), fullPage: true })
        await accessible(page, name)
        if (name === 'light, desktop') {
          await numbers(page)
          await banners(page)
          await orderByKeyboard(page)
          await detail(page)
          await timeline(page)
        }
        await page.evaluate(() => document.getElementById('give').click())
        await accessible(page, `${name}, an order being given`)
        // The login form was refused once before the token was typed: that 401 is meant.
        page.complaints = page.complaints.filter(text => !/401/.test(text))
        await clean(page, name)
        await page.context().close()
      }
    }
    await ourselves(browser)
    console.log(JSON.stringify(checks))
  } finally {
    await browser.close()
  }
}

main().catch(error => {
  console.log(JSON.stringify(checks, null, 1))
  console.error(error)
  process.exitCode = 1
})
