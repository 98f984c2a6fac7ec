// Chromium, driven by Playwright, which writes and reads HAR files: har.mjs record|replay FILE URL CHROMIUM HOME [ARGUMENTS…]
//
// `record` opens the page and writes what Chromium tells of it; `replay` opens it with nothing but the file to answer. Both print
// what the page then says.
import { chromium } from 'playwright-core';

const [mode, file, url, executablePath, home, ...args] = process.argv.slice(2);
const proxy = process.env.PROXY ? { server: process.env.PROXY, bypass: '<-loopback>' } : undefined;
const browser = await chromium.launch({ executablePath, args, proxy, env: { ...process.env, HOME: home } });
const recordHar = mode === 'record' ? { path: file, content: 'embed', mode: 'full' } : undefined;
const context = await browser.newContext({ recordHar, ignoreHTTPSErrors: mode === 'record' });
if (mode === 'replay') await context.routeFromHAR(file, { notFound: 'abort' });
const page = await context.newPage();
await page.goto(url);
await page.getByText('api received').waitFor({ timeout: 30000 });
await page.waitForLoadState('networkidle');
console.log(await page.locator('body').innerText());
await context.close();
await browser.close();
