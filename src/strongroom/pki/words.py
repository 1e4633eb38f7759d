"""The 1,024 words in which a fingerprint is read out over a telephone.

Made for this purpose: English nouns and their like, four to eight letters, no two alike in their first four,
no two a single letter apart. The list is a lasting format: order and spelling never change.
"""

from __future__ import annotations

from typing import Final

_TEXT: Final = """
abbey about above absent acid acorn across actor adapt admit adult advice aerial afford after again agent
agree ahead airport aisle alarm album alert algebra almond alone already altar amber amount anchor angle
animal annual answer antenna anvil apple april apron aquatic arcade arch arena armor army around artist
ashes aspect asset athlete atlas atom attic auction audio august autumn avenue average avoid awake award
axis azure bacon badge bagel baker balance bamboo banana banjo barrel basket bathtub battle beach beaver
become bedroom beetle before begin behave believe berry best beyond bicycle billow binary birch bishop
bitter blanket blend block bloom blue board boil bolt bonus book border bounce boxer bracket brave bread
bridge brush bubble bucket budget buffalo bugle build bulb bumper bundle burst buzzer cabin cable cactus
cafe calcium calm camel canal candle cannon canvas capital captain carbon card carpet castle catalog cause
cavern ceiling celery cellar cement census center ceramic chair chapter charge cheese cherry chicken
chimney church cider cinema circle citizen city civil clap class clean clerk clever client cliff climb
clinic cloth cloud club coach coast cobalt cocoa coffee coin comet concert copper coral corner cosmic
cotton cough country couple cover cowboy coyote crab cradle craft crater crayon cream cricket crisp crop
crown cruise crystal cube cuckoo culture curtain custom cycle daily damp dancer daring dash data dawn deal
debate decide deep defend degree delta demand dentist depot derby desert detail device diamond diary
diesel dinner diploma direct ditch divide doctor dodge dolphin domain donkey door double dove dozen dragon
drama draw drift drill drum dryer duck duet dune dwarf dynamo eagle early earth easel echo eclipse editor
effort elastic elbow elder elegant eleven elite embark emblem emerald empire employ empty enamel energy
engine enjoy enough epic equal equip erase errand escape essay estate eternal ether every exact example
exceed exhibit exit exotic expert express extra eyebrow fabric face faculty fairy falcon family famous
fancy farmer fashion father faucet feast fence fern fiber fiction fiddle field figure filter final finger
fire fiscal fish fitness flag flame flavor fleet flight floor fluid flute foam focus folder follow forest
fork fossil foster found fragile freedom fresh friday fringe frog front fruit fuel funnel furnace future
gadget galaxy gallon game garden garlic gauge gazelle general genius gentle geyser giant gift giraffe
glacier glide globe goat goblet gold gondola goose gorilla govern gown grace grain gravity green grid
grocer group grove growth guard guess guitar gulf gust gymnast gypsum habit hail half hammer hamster hand
happy harbor harvest hawk hazel health heart heavy hedge height helmet help herb hexagon hidden highway
hill hinge history hobby hockey home honey hood horizon host hotel hour house human humble hundred hunter
hurdle husky hybrid hydrant hymn icon idea idle igloo image imitate impact import inch income index indoor
ingot inherit initial inland input insect install intact invent iris item ivory jacket jade jaguar january
jasmine jazz jeans jelly jersey jewel jigsaw jingle joke journal judge juggle juice jump junior jury
justice karate kayak keen kennel ketchup kettle kidney kilo kind kiosk kitchen kite kiwi knee knight knock
knot koala label labor ladder lagoon lake lantern large laser latch laundry lava lawyer leader leaf learn
leather lecture left legend lemon length lentil leopard lesson letter level liberty library license lilac
linen lion liquid list litre liver lizard llama loan lobster local locker logic lonely loop lottery lotus
lounge lower lucky luggage lumber lunar lunch lung luxury lyric machine magnet maiden major mammal manage
mango mansion maple marble margin market mask master maximum maze meadow measure medal melody member
memory mention menu mercury method migrate mild mimic mineral minute miracle mirror mission mixture mobile
model module moment monday month moon morning mosaic moss mother motor movie muffin mule muscle museum
music mustard mutual mystery myth napkin narrow nation nature navy near nebula neck nectar needle nephew
nerve network neutral never newborn nickel nimble nine noble noise nomad noodle normal north notable novel
nozzle nugget nurse nutmeg nylon oasis oatmeal object oblong obtain ocean octagon october odor offer
office often olive olympic omega omelet onion online onyx opal open opera opinion option oracle orange
orbit orchid organ orient origin ostrich otter outdoor owner oxygen oyster ozone pacific package paddle
page paint palace pancake panda panel paper parade parent park pasta patio pattern payment peanut pebble
pelican pencil penguin people pepper perfect permit person phone photo phrase physics piano pickle picnic
picture pigeon pilot pink pioneer pipe pirate piston pizza planet plate play plenty plug pocket podium
poem police pond popcorn poplar potato powder praise prefer pretty price profit proof proud public pulse
pupil puppet purple puzzle python queen quick quiet quota rabbit radar radio ranch random rapid raven
razor ready reason recipe record reform region relax remote render repair report rescue resin result
reveal review reward rhino rhythm ribbon right ripple robin robot rodeo rotate route royal rubber rudder
ruler rumor runway rural rustic safari salad salmon salute sample satin sauce scale scarf scene school
score scout screen script search second secret select senior series seven shadow shape shark shield shine
shiver shock short shovel shrimp shrug silver siren sister sketch sleep slice slogan slope small smile
smoke smooth snack snake soccer social solar solid sonic source south space speak sphere spider spirit
splash sponge spoon spray spring square stable stage stairs stamp steam steel stick sting stone stool
storm street strong studio style submit suburb sudden sugar summer super supply sushi swift switch sword
symbol syrup system tackle tactic tailor talent target tartan teapot temple tenant tennis thank theme
theory thick thing third thorn thread thumb ticket tiger timber tissue title today tomato tongue topaz
topic torch total towel track trade travel trend trial trophy truth tulip tundra turkey turtle tutor
tuxedo twelve twenty twist ultra uncle under unique until update uphill upper upset urban usage useful
usual vacuum valid valley valve vapor vault vector velvet vendor venus vessel video violin visit vital
vivid voice volume voyage waffle wagon walnut walrus waltz wander washer water whale wheat wheel white
wicker width window winter wisdom worker world wreath wrist writer yacht yellow yogurt young zebra zenith
zigzag zipper zodiac
"""

WORDS: Final[tuple[str, ...]] = tuple(_TEXT.split())

NUMBERS: Final[dict[str, int]] = {word: number for number, word in enumerate(WORDS)}
